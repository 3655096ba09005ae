/** The key ring on disk: made once, extended atomically, never readable by others. */
import { type KeyObject, randomBytes } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import type { SealedPlace } from '../interactions/index.ts'
import { KeyRing, type KeyRingFile, newKeyRing, parseKeyRing, withNewKey } from '../interactions/index.ts'
import { ConfigError } from './config.ts'

/** A key ring file, read. */
export interface ReadRing {
  ring: KeyRingFile
  /** Permission bits, such as 0o600. */
  mode: number
}

/**
 * Reads the key ring file.
 *
 * @returns the ring and the permission bits of its file, or `undefined` when there is no such file
 * @throws {ConfigError} when it cannot be read or is no key ring; the message never holds what is in it
 */
export function readKeyRing(path: string): ReadRing | undefined {
  let file: number | undefined
  try {
    file = openSync(path, 'r')
    const mode = fstatSync(file).mode & 0o777
    return { ring: parseKeyRing(readFileSync(file, 'utf8')), mode }
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined
    if (code === 'ENOENT') return undefined
    // The cause is left out where it may quote the file.
    if (code?.startsWith('E')) throw new ConfigError(`SALLYPORT_KEYS: cannot read ${path} (${code})`, { cause })
    throw new ConfigError(`SALLYPORT_KEYS: ${path} is no key ring: restore it, or name the right file`)
  } finally {
    if (file !== undefined) closeSync(file)
  }
}

/**
 * Makes a key ring file with one new key, mode 0600, unless there is one. Of several processes that start at once one
 * makes it and all read the same.
 *
 * @returns true when this call made it
 * @throws {ConfigError} when the file cannot be written
 */
export function createKeyRing(path: string): boolean {
  return writing(path, () => {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    const draft = `${path}.${randomBytes(6).toString('hex')}.tmp`
    try {
      writeDurably(draft, newKeyRing())
      linkSync(draft, path) // fails where there is one: a ring is never replaced by another
      syncFolder(path)
      return true
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
      throw error
    } finally {
      rmSync(draft, { force: true })
    }
  })
}

/**
 * Puts a new key in front of the ring, atomically, and keeps the mode of the file.
 *
 * @returns the id of the new key
 * @throws {ConfigError} when there is no ring, it cannot be written, or another rotation is at work
 */
export function addKeyToRing(path: string): string {
  return writing(path, () => {
    const draft = `${path}.rotating`
    const before = readKeyRing(path)
    if (!before) throw new ConfigError(`SALLYPORT_KEYS: no key ring at ${path}`)
    const lock = openLock(draft, path)
    try {
      // Read again: the lock is held now, and what another rotation added must not be lost.
      const ring = withNewKey(readKeyRing(path)?.ring ?? before.ring)
      writeSync(lock, serialise(ring))
      chmodSync(draft, before.mode)
      fsyncSync(lock)
      renameSync(draft, path)
      syncFolder(path)
      return ring.keys[0]!.id
    } catch (error) {
      rmSync(draft, { force: true })
      throw error
    } finally {
      closeSync(lock)
    }
  })
}

/**
 * A key ring that looks at its file again when it meets a key it does not know: after `keys rotate --data` a running
 * server goes on reading what the new key sealed, without a restart.
 */
export class KeyRingOnDisk extends KeyRing {
  readonly #path: string
  #ring: KeyRing
  #ids: Set<string>

  constructor(file: KeyRingFile, path: string) {
    super(file)
    this.#path = path
    this.#ring = new KeyRing(file)
    this.#ids = idsOf(file)
  }

  override seal(place: SealedPlace, plaintext: string): string {
    return this.#ring.seal(place, plaintext)
  }

  override open(place: SealedPlace, sealed: string): string {
    const id = sealed.split('.')[1] ?? ''
    if (!this.#ids.has(id)) this.#readAgain(id)
    return this.#ring.open(place, sealed)
  }

  override isStale(sealed: string): boolean {
    return this.#ring.isStale(sealed)
  }

  override cookieKeys(): string[] {
    return this.#ring.cookieKeys()
  }

  override signingKey(purpose: string): { id: string; key: KeyObject } {
    return this.#ring.signingKey(purpose)
  }

  override verificationKey(purpose: string, id: string): KeyObject | undefined {
    if (!this.#ids.has(id)) this.#readAgain(id)
    return this.#ring.verificationKey(purpose, id)
  }

  override mac(purpose: string, value: string): string {
    return this.#ring.mac(purpose, value)
  }

  /** Takes over what the file holds now, if it holds the wanted key. */
  #readAgain(id: string) {
    let ring: KeyRingFile | undefined
    try {
      ring = readKeyRing(this.#path)?.ring
    } catch {
      return // the key stays unknown, and opening says so
    }
    if (!ring?.keys.some((key) => key.id === id)) return
    this.#ring = new KeyRing(ring)
    this.#ids = idsOf(ring)
  }
}

const idsOf = (file: KeyRingFile) => new Set(file.keys.map(({ id }) => id))

const serialise = (ring: KeyRingFile) => `${JSON.stringify(ring, null, 2)}\n`

function writeDurably(path: string, ring: KeyRingFile) {
  const file = openSync(path, 'wx', 0o600)
  try {
    writeSync(file, serialise(ring))
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** The half-written file is the lock: who cannot make it comes second. */
function openLock(draft: string, path: string): number {
  try {
    return openSync(draft, 'wx', 0o600)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    throw new ConfigError(
      `SALLYPORT_KEYS: another rotation of ${path} is at work; if it was interrupted, remove ${draft} and try again`,
    )
  }
}

/** So that the new name survives a power cut as well as the new content. */
function syncFolder(path: string) {
  const folder = openSync(dirname(path), 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}

function writing<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    if (cause instanceof ConfigError || !(cause instanceof Error)) throw cause
    const why = 'code' in cause ? String(cause.code) : cause.message
    throw new ConfigError(`SALLYPORT_KEYS: cannot write ${path} (${why})`, { cause })
  }
}
