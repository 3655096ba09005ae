/** A small HTTP/1.1 client over one kept connection: it must cost less than what it measures. */
import { connect, type Socket } from 'node:net'

/** An answer, its body as text. */
export interface Answer {
  status: number
  headers: Map<string, string>
  cookies: string[]
  body: string
}

/** What is asked. */
export interface Ask {
  method?: 'GET' | 'POST'
  path: string
  headers?: Record<string, string>
  form?: Record<string, string>
}

/** One connection, one request at a time. */
export class Client {
  readonly #host: string
  readonly #port: number
  #socket: Socket | undefined
  #usedAt = 0
  #received: Buffer = Buffer.alloc(0)
  #waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | undefined

  constructor(origin: string) {
    const { hostname, port } = new URL(origin)
    this.#host = hostname
    this.#port = Number(port)
  }

  ask({ method, path, headers = {}, form }: Ask): Promise<Answer> {
    const body = form === undefined ? '' : new URLSearchParams(form).toString()
    const verb = method ?? (form === undefined ? 'GET' : 'POST')
    let head = `${verb} ${path} HTTP/1.1\r\nhost: ${this.#host}:${this.#port}\r\n`
    for (const name in headers) head += `${name}: ${headers[name]}\r\n`
    if (form !== undefined)
      head += `content-type: application/x-www-form-urlencoded\r\ncontent-length: ${Buffer.byteLength(body)}\r\n`
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#connected().write(`${head}\r\n${body}`)
    })
  }

  close(): void {
    this.#socket?.destroy()
    this.#socket = undefined
  }

  #connected(): Socket {
    // Node's servers close a connection that was not used for five seconds.
    if (performance.now() - this.#usedAt > 2000) this.close()
    this.#usedAt = performance.now()
    if (this.#socket && !this.#socket.destroyed) return this.#socket
    const socket = connect({ host: this.#host, port: this.#port, noDelay: true })
    socket.on('data', (chunk) => {
      this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
      this.#read()
    })
    socket.on('error', (error) => this.#socket === socket && this.#waiting?.reject(error))
    socket.on('close', () => {
      if (this.#socket === socket) this.#waiting?.reject(new Error('the connection was closed'))
    })
    this.#socket = socket
    return socket
  }

  #read(): void {
    const end = this.#received.indexOf('\r\n\r\n')
    if (end === -1) return
    const lines = this.#received.toString('latin1', 0, end).split('\r\n')
    const headers = new Map<string, string>()
    const cookies: string[] = []
    for (const line of lines.slice(1)) {
      const colon = line.indexOf(':')
      const name = line.slice(0, colon).toLowerCase()
      const value = line.slice(colon + 1).trim()
      if (name === 'set-cookie') cookies.push(value)
      else headers.set(name, value)
    }
    const start = end + 4
    const body = headers.has('transfer-encoding')
      ? this.#chunks(start)
      : this.#plain(start, Number(headers.get('content-length') ?? 0))
    if (!body) return
    this.#received = this.#received.subarray(body.end)
    const { resolve } = this.#waiting!
    this.#waiting = undefined
    resolve({ status: Number(lines[0]!.slice(9, 12)), headers, cookies, body: body.text })
  }

  #plain(start: number, length: number): { text: string; end: number } | undefined {
    const end = start + length
    return this.#received.length < end ? undefined : { text: this.#received.toString('utf8', start, end), end }
  }

  #chunks(start: number): { text: string; end: number } | undefined {
    const parts: Buffer[] = []
    for (let at = start; ; ) {
      const line = this.#received.indexOf('\r\n', at)
      if (line === -1) return undefined
      const size = Number.parseInt(this.#received.toString('latin1', at, line), 16)
      const end = line + 2 + size + 2
      if (this.#received.length < end) return undefined
      if (size === 0) return { text: Buffer.concat(parts).toString('utf8'), end }
      parts.push(this.#received.subarray(line + 2, end - 2))
      at = end
    }
  }
}
