/**
 * Owns a store that can go away: the HTTP service of examples/adapters/http-values.ts on loopback. It
 * records every call and answers as it is told to, also not at all.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

export const HTTP_VALUES = join(import.meta.dirname, '../../examples/adapters/http-values.ts')

/** How the store answers a key. */
export type Answer = (key: string, request: IncomingMessage, response: ServerResponse) => void

export interface ValueStore {
  readonly port: number
  /** Keys asked for, in order. */
  readonly calls: string[]
  answer: Answer
  /** Stops listening and cuts every connection. */
  down(): Promise<void>
  /** Listens again, on the same port. */
  up(): Promise<void>
  /** Top-level configuration keys that make `provider: http-values` use this store. */
  readonly configuration: { readonly adapters: readonly string[]; readonly backends: object }
}

/** Answers 200 with the value, and its length as version. */
export function holding(values: Readonly<Record<string, string>>): Answer {
  return (key, _request, response) => {
    const value = Object.hasOwn(values, key) ? values[key] : undefined
    response.writeHead(value === undefined ? 404 : 200, { etag: `"${value?.length}"` }).end(value)
  }
}

/** Never answers. */
export const silent: Answer = () => {}

/** Starts the store. Call `down` at the end. */
export async function valueStore(answer: Answer): Promise<ValueStore> {
  const calls: string[] = []
  const server = createServer((request, response) => {
    const key = decodeURIComponent((request.url ?? '/').slice(1))
    calls.push(key)
    store.answer(key, request, response)
  })
  const listen = async (port: number): Promise<void> => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  await listen(0)
  const { port } = server.address() as AddressInfo
  const store: ValueStore = {
    port,
    calls,
    answer,
    async down() {
      if (!server.listening) return
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
    up: () => listen(port),
    configuration: {
      adapters: [HTTP_VALUES],
      backends: { 'http-values': { url: `http://127.0.0.1:${port}` } },
    },
  }
  return store
}
