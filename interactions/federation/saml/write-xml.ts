/** Elements as text: for what we send. */
import { escapeXml } from './strict-xml.ts'

/**
 * An element. Attributes without a value are left out.
 *
 * @param content text that is XML already
 */
export function xml(name: string, attributes: Record<string, string | undefined> = {}, content = ''): string {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${escapeXml(value!)}"`)
    .join('')
  return content === '' ? `<${name}${written}/>` : `<${name}${written}>${content}</${name}>`
}

/** An element with text. */
export const xmlText = (name: string, text: string): string => xml(name, {}, escapeXml(text))

/** The Base64 inside a certificate in PEM. */
export const certificateBody = (pem: string): string => pem.replace(/-----[^-]+-----|\s/g, '')
