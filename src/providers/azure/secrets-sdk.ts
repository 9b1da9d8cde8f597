/**
 * Owns @azure/keyvault-secrets: it builds the request and reads the answer; the way there (pool, caps,
 * guard, token, repeats) is ours. It never sees a token, a challenge or a redirect.
 */
import type { SecretClientOptions } from '@azure/keyvault-secrets'
import { BackendError } from '../adapter.ts'
import { badAnswer } from './failures.ts'
import type { VaultCalls } from './vault-calls.ts'

/** Of the same age everywhere: sovereign clouds and Azure Stack Hub know it too. */
export const API_VERSION = '7.4'

/** A secret as the vault gives it. */
export interface FetchedSecret {
  readonly value: string
  /** `https://<vault>/secrets/<name>/<version>` */
  readonly id: string
  readonly contentType: string | undefined
  /** Present when the secret belongs to a certificate. */
  readonly kid: string | undefined
}

/** Gives secrets of one vault. @throws (by the function it gives) BackendError */
export type SecretReader = (
  name: string,
  version: string | undefined,
  signal: AbortSignal,
) => Promise<FetchedSecret>

type Transport = NonNullable<SecretClientOptions['httpClient']>
type TransportReply = Awaited<ReturnType<Transport['sendRequest']>>

export async function secretReader(calls: VaultCalls): Promise<SecretReader> {
  const { SecretClient } = await import('@azure/keyvault-secrets')
  const nobody = { getToken: () => Promise.reject(new Error('the transport brings the token')) }
  const client = new SecretClient(`${calls.origin}/`, nobody, {
    httpClient: transport(calls),
    serviceVersion: API_VERSION,
    retryOptions: { maxRetries: 0 },
    redirectOptions: { maxRetries: 0 },
  })
  return async (name, version, abortSignal) => {
    try {
      const { value, properties } = await client.getSecret(name, {
        abortSignal,
        ...(version === undefined ? {} : { version }),
      })
      if (typeof value !== 'string') throw badAnswer('secret value is nil')
      if (typeof properties.id !== 'string') throw badAnswer('secret id is nil')
      return {
        value,
        id: properties.id,
        contentType: properties.contentType,
        kid: properties.certificateKeyId,
      }
    } catch (error) {
      if (error instanceof BackendError) throw error
      // The SDK's own errors quote the answer.
      throw badAnswer('the answer is not a secret: secret id is nil or not that of a secret')
    }
  }
}

function transport(calls: VaultCalls): Transport {
  return {
    async sendRequest(request): Promise<TransportReply> {
      const reply = await calls.send({
        method: 'GET',
        url: request.url,
        headers: { 'user-agent': request.headers.get('user-agent') ?? 'keyferry' },
      })
      const bodyAsText = reply.body.toString()
      reply.body.fill(0)
      return { request, status: reply.status, headers: new ReplyHeaders(reply.headers), bodyAsText }
    },
  }
}

/** Headers in the SDK's shape; its own class is in a package that is not a dependency of ours. */
class ReplyHeaders {
  readonly #values: Map<string, string>

  constructor(values: Readonly<Record<string, string>>) {
    this.#values = new Map(Object.entries(values))
  }

  get(name: string): string | undefined {
    return this.#values.get(name.toLowerCase())
  }

  has(name: string): boolean {
    return this.#values.has(name.toLowerCase())
  }

  set(name: string, value: string | number | boolean): void {
    this.#values.set(name.toLowerCase(), String(value))
  }

  delete(name: string): void {
    this.#values.delete(name.toLowerCase())
  }

  toJSON(): Record<string, string> {
    return Object.fromEntries(this.#values)
  }

  [Symbol.iterator](): IterableIterator<[string, string]> {
    return this.#values[Symbol.iterator]()
  }
}
