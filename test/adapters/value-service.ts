/** Owns a stand-in for the in-house service of examples/adapters: real HTTP on loopback, every call recorded. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface ServiceCall {
  readonly method: string
  readonly path: string
  readonly authorization: string
}

export interface ValueService {
  readonly url: string
  readonly calls: ServiceCall[]
  /** Key → value and entity tag. A key that is not here is answered 404. */
  readonly values: Map<string, { readonly value: string; readonly etag: string }>
  /** Keys that are answered with this status, whatever they hold. */
  readonly faults: Map<string, number>
  close(): Promise<void>
}

/** Answers callers that present `token`, and 401 to everyone else. */
export async function startValueService(token: string): Promise<ValueService> {
  const calls: ServiceCall[] = []
  const values: ValueService['values'] = new Map()
  const faults: ValueService['faults'] = new Map()
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    const authorization = request.headers.authorization ?? ''
    calls.push({ method: request.method ?? '', path, authorization })
    const key = decodeURIComponent(path.slice('/v1/'.length))
    const held = values.get(key)
    const fault = faults.get(key) ?? (authorization === `Bearer ${token}` ? undefined : 401)
    if (fault !== undefined) response.writeHead(fault).end('why is nobody else to know')
    else if (held === undefined) response.writeHead(404).end()
    else response.writeHead(200, { etag: held.etag }).end(held.value)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/v1`,
    calls,
    values,
    faults,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
