import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { createKubernetesReads } from '../../src/commands/kubernetes-reads.ts'
import { parseConfig } from '../../src/config.ts'
import { createSessionCache } from '../../src/identity/session-cache.ts'
import { createCallers, type HostServices } from '../../src/mount/host.ts'
import { decodeMountRequest } from '../../src/mount/request.ts'
import { createHttpClient } from '../../src/net/client.ts'
import type { Dialect, Host, Source } from '../../src/providers/adapter.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { silentMeter } from '../../src/telemetry/metrics.ts'
import { backendContext } from '../support/backend-context.ts'

const K = 'csi.storage.k8s.io/'
const SOURCE: Source = { backend: 'b', store: {}, identity: 'pod', ref: 'r' }
const dialect = (needs: Dialect['needs'] = {}): Dialect => ({
  name: 'd',
  needs,
  plan: () => ({ outputs: [] }),
})

interface Who {
  readonly namespace?: string
  readonly serviceAccount?: string
  readonly tokens?: object | string
  readonly secrets?: Record<string, string>
}

type Callers = ReturnType<typeof createCallers>

const makeCallers = (services: Partial<HostServices> = {}): Callers =>
  createCallers({
    http: backendContext().http,
    sessions: createSessionCache({ now: Date.now, meter: silentMeter }),
    log: silentLogger,
    now: () => new Date(),
    annotation: () => Promise.resolve(undefined),
    nodeLabel: () => Promise.resolve(undefined),
    ...services,
  })

function callerOf(who: Who, callers: Callers = makeCallers(), needs: Dialect['needs'] = {}) {
  const request = decodeMountRequest({
    attributes: JSON.stringify({
      [`${K}pod.name`]: 'web-0',
      [`${K}pod.namespace`]: who.namespace ?? 'shop',
      [`${K}pod.uid`]: 'u-1',
      [`${K}serviceAccount.name`]: who.serviceAccount ?? 'web',
      ...(who.tokens && {
        [`${K}serviceAccount.tokens`]:
          typeof who.tokens === 'string' ? who.tokens : JSON.stringify(who.tokens),
      }),
    }),
    secrets: JSON.stringify(who.secrets ?? {}),
    target_path: '',
    permission: '420',
  })
  return callers(
    request,
    { provider: 'd', signal: new AbortController().signal, deadline: Date.now() + 1000 },
    dialect(needs),
  )
}

const hostOf = (...args: Parameters<typeof callerOf>): Host =>
  callerOf(...args).host(SOURCE, new AbortController().signal)
const jwt = (uid: string): object => ({
  token: `h.${Buffer.from(JSON.stringify({ 'kubernetes.io': { serviceaccount: { uid } } })).toString('base64url')}.s`,
  expirationTimestamp: '2099-01-01T00:00:00Z',
})

describe('whom a fetch belongs to', () => {
  const callers = makeCallers()
  const key = (who: Who): string => callerOf(who, callers).identityKey('pod')

  it('T7 a namespace, a service account, its uid and a node-publish Secret each make another identity', () => {
    const all: Who[] = [
      {},
      { namespace: 'bank' },
      { serviceAccount: 'other' },
      { tokens: { a: jwt('uid-1') } },
      { tokens: { a: jwt('uid-2') } },
    ]
    expect(new Set(all.map(key)).size).toBe(all.length)
    expect(key({})).toBe(key({}))
    expect(callerOf({}).identityKey('node')).toBe(callerOf({ namespace: 'bank' }).identityKey('node'))
    expect(callerOf({}).identityKey('node')).not.toBe(key({}))
  })

  it('T7 two pods with different node-publish Secrets never share, and the key says nothing of the Secret', () => {
    const callers = makeCallers()
    const secrets: Record<string, string>[] = [
      { id: 'a', key: 'canary' },
      { id: 'b', key: 'canary' },
      { 'id:1': 'a' },
      { id: ':1a' },
    ]
    const keys = secrets.map((one) => callerOf({ secrets: one }, callers).identityKey('pod'))
    expect(callerOf({ secrets: { key: 'canary', id: 'a' } }, callers).identityKey('pod')).toBe(keys[0])
    expect(new Set(keys).size).toBe(4)
    expect(keys.join()).not.toContain('canary')
  })

  it('T22 tokens that are no JSON object fail the mount as its author’s fault, without a word of them', () => {
    expect(() => callerOf({ tokens: '[canary' })).toThrow(expect.objectContaining({ grpcCode: 3 }))
    expect(() => callerOf({ tokens: '[canary' })).not.toThrow(/canary/)
  })

  it('hands the node-publish Secret over only to a dialect that says it reads it', () => {
    expect(hostOf({ secrets: { id: 'a' } }).nodePublishSecret('id')).toBeUndefined()
    expect(
      hostOf({ secrets: { id: 'a' } }, makeCallers(), { nodePublishSecret: true })
        .nodePublishSecret('id')
        ?.reveal()
        .toString(),
    ).toBe('a')
  })
})

describe('tokens that the driver did not hand over', () => {
  const servers: { close(): void }[] = []
  afterEach(() => {
    for (const server of servers.splice(0)) server.close()
  })

  it('driver 6 are an error that names the audience, as long as the operator allows no token requests', async () => {
    await expect(hostOf({ tokens: { a: jwt('u') } }).token('vault')).rejects.toThrow(
      expect.objectContaining({ code: 'TOKEN_MISSING', message: expect.stringContaining('"vault"') }),
    )
  })

  it('T21 are asked for, bound to the pod, only with kubernetes.tokenRequests', async () => {
    const asked: { url: string | undefined; body: unknown }[] = []
    const server = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        asked.push({ url: request.url, body: JSON.parse(Buffer.concat(chunks).toString()) })
        response.writeHead(201, { 'content-type': 'application/json' })
        response.end(
          JSON.stringify({ status: { token: 'minted', expirationTimestamp: '2099-01-01T00:00:00Z' } }),
        )
      })
    })
    servers.push(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const reads = (more: string) =>
      createKubernetesReads(
        parseConfig('c', `kubernetes: {server: '${address}'${more}}`).config,
        createHttpClient({ rules: { refused: [] } }),
        {},
      )
    expect(reads('').mint).toBeUndefined()
    const { mint } = reads(', tokenRequests: true')
    if (!mint) throw new Error('no mint')
    const host = hostOf({ tokens: { own: jwt('u') } }, makeCallers({ mint }))
    expect((await host.token('vault')).token.reveal().toString()).toBe('minted')
    expect((await host.token('own')).token.reveal().toString()).toMatch(/^h\./)
    expect(asked).toEqual([
      {
        url: '/api/v1/namespaces/shop/serviceaccounts/web/token',
        body: expect.objectContaining({
          spec: expect.objectContaining({
            audiences: ['vault'],
            expirationSeconds: 900,
            boundObjectRef: expect.objectContaining({ kind: 'Pod', name: 'web-0', uid: 'u-1' }),
          }),
        }),
      },
    ])
  })
})
