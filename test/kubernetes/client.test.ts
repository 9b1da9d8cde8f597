import { createServer } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { createKubernetesClient, inClusterSettings, KubernetesError } from '../../src/kubernetes/client.ts'
import { watchGonePods } from '../../src/kubernetes/gone-pods.ts'
import { createHttpClient } from '../../src/net/client.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { createAuthority } from '../net/certificates.ts'

const authority = createAuthority()
const certificate = authority.issue(['127.0.0.1'])
const signal = new AbortController().signal
const closers: (() => void)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

type Answer = (request: IncomingMessage, response: ServerResponse) => void

/** An API server that records its calls, and a client for it. */
async function cluster(answer: Answer, options: { allowTokenRequests?: boolean; now?: () => number } = {}) {
  const calls: {
    method: string
    url: string
    authorization: string | undefined
    accept: string | undefined
    body: string
  }[] = []
  const server = createServer(certificate, (request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      const { authorization, accept } = request.headers
      calls.push({ method: request.method ?? '', url: request.url ?? '', authorization, accept, body })
      answer(request, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const directory = mkdtempSync(join(tmpdir(), 'keyferry-kubernetes-'))
  const http = createHttpClient({ rules: { refused: [] } })
  closers.push(() => {
    http.close()
    server.close()
    server.closeAllConnections()
    rmSync(directory, { recursive: true, force: true })
  })
  const tokenFile = join(directory, 'token')
  const caFile = join(directory, 'ca.crt')
  writeFileSync(tokenFile, 'first\n')
  writeFileSync(caFile, authority.ca)
  const settings = {
    server: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    tokenFile,
    caFile,
  }
  const client = createKubernetesClient({ http, settings, now: Date.now, ...options })
  return { client, calls, tokenFile, directory }
}

const json =
  (value: unknown, status = 200): Answer =>
  (_, response) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
const object = (uid: string, extra: object = {}) => ({ metadata: { name: 'web', uid, ...extra } })

async function failure(call: Promise<unknown>): Promise<KubernetesError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof KubernetesError)) throw new Error('expected a KubernetesError', { cause: error })
  return error
}

describe('reads', () => {
  it('gives the annotations and labels of a service account, a prototype name among them', async () => {
    const { client, calls } = await cluster((_, response) =>
      response.end(
        '{"metadata":{"name":"web","uid":"u1","annotations":{"eks.amazonaws.com/role-arn":"arn:x","__proto__":"y"}}}',
      ),
    )
    const { uid, annotations } = await client.serviceAccount('shop', 'web', signal)
    expect(uid).toBe('u1')
    expect(annotations.get('eks.amazonaws.com/role-arn')).toBe('arn:x')
    expect(annotations.get('__proto__')).toBe('y')
    expect(calls[0]).toMatchObject({ method: 'GET', authorization: 'Bearer first' })
    expect(calls[0]?.url).toMatch(/^\/api\/v1\/namespaces\/shop\/serviceaccounts\/web\??$/)
  })

  it('reads a service account once for all who ask, and again when it is old', async () => {
    let now = 0
    const { client, calls } = await cluster(json(object('u1')), { now: () => now })
    await Promise.all(Array.from({ length: 20 }, () => client.serviceAccount('shop', 'web', signal)))
    expect(calls).toHaveLength(1)
    await client.serviceAccount('shop', 'other', signal)
    expect(calls).toHaveLength(2)
    now = 30_001
    await client.serviceAccount('shop', 'web', signal)
    expect(calls).toHaveLength(3)
  })

  it('does not keep a failure', async () => {
    let status = 500
    const { client, calls } = await cluster((request, response) =>
      json(object('u1'), status)(request, response),
    )
    expect((await failure(client.node('worker-1', signal))).kind).toBe('unavailable')
    status = 200
    expect((await client.node('worker-1', signal)).uid).toBe('u1')
    expect(calls).toHaveLength(2)
  })

  it('does not let one caller that gives up fail the others', async () => {
    const { client } = await cluster(
      (request, response) => void setTimeout(() => json(object('u1'))(request, response), 50),
    )
    const impatient = failure(client.serviceAccount('shop', 'web', AbortSignal.timeout(10)))
    const patient = client.serviceAccount('shop', 'web', signal)
    expect((await impatient).kind).toBe('timeout')
    expect((await patient).uid).toBe('u1')
  })

  it('gives what is needed of a pod', async () => {
    const { client } = await cluster(
      json({
        ...object('u1'),
        spec: { serviceAccountName: 'web-sa', nodeName: 'n1' },
        status: { hostIP: '10.0.0.1' },
      }),
    )
    expect(await client.pod('shop', 'web', signal)).toMatchObject({
      serviceAccount: 'web-sa',
      nodeName: 'n1',
      hostIp: '10.0.0.1',
    })
  })

  it('follows the pages of a list, metadata only', async () => {
    const { client, calls } = await cluster((request, response) => {
      const page = new URL(request.url ?? '', 'https://x').searchParams.get('continue')
      json(
        page === null
          ? { metadata: { continue: 'a+/=' }, items: [object('u1')] }
          : { metadata: {}, items: [object('u2')] },
      )(request, response)
    })
    expect([...(await client.podUidsOnNode('n1', signal))]).toEqual(['u1', 'u2'])
    expect(calls[0]?.url).toContain('fieldSelector=spec.nodeName%3Dn1')
    expect(calls[0]?.accept).toContain('PartialObjectMetadataList')
    expect(new URL(calls[1]?.url ?? '', 'https://x').searchParams.get('continue')).toBe('a+/=')
  })

  it('gives provider and parameters of a SecretProviderClass, anew each time', async () => {
    const spec = { provider: 'vault', parameters: { objects: '- a', n: 1 }, secretObjects: [] }
    const { client, calls } = await cluster(json({ ...object('u1'), spec }))
    const read = await client.secretProviderClass('shop', 'db', signal)
    expect(read).toEqual({ provider: 'vault', parameters: new Map([['objects', '- a']]) })
    await client.secretProviderClass('shop', 'db', signal)
    expect(calls.map(({ url }) => url.replace(/\?$/, ''))).toEqual(
      Array(2).fill('/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasses/db'),
    )
  })

  it('uses the token that is in the file now', async () => {
    const { client, calls, tokenFile, directory } = await cluster(json(object('u1')))
    await client.pod('shop', 'web', signal)
    writeFileSync(join(directory, 'next'), 'second-token')
    renameSync(join(directory, 'next'), tokenFile)
    await client.pod('shop', 'web', signal)
    expect(calls.map(({ authorization }) => authorization)).toEqual(['Bearer first', 'Bearer second-token'])
  })
})

describe('failures', () => {
  it.each([
    [401, 'unauthenticated'],
    [403, 'denied'],
    [404, 'not-found'],
    [429, 'throttled'],
    [500, 'unavailable'],
    [503, 'unavailable'],
    [302, 'malformed'],
    [418, 'malformed'],
  ])('HTTP %i is %s, named without the reply', async (status, kind) => {
    const { client } = await cluster(json({ message: 'canary-reply' }, status))
    const error = await failure(client.serviceAccount('shop', 'web', signal))
    expect(error.kind).toBe(kind)
    expect(error.message).toContain('service account shop/web')
    expect(error.message).not.toContain('canary-reply')
    expect(error.remedy ?? '').toContain(kind === 'denied' ? 'get on serviceaccounts' : '')
  })

  it.each(['', '[]', '{}', 'null', '{"metadata":{"name":1}}', 'canary{'])(
    'a reply of %j is malformed',
    async (body) => {
      const { client } = await cluster((_, response) => response.end(body))
      const error = await failure(client.serviceAccount('shop', 'web', signal))
      expect(error.kind).toBe('malformed')
      expect(error.message).not.toContain('canary')
    },
  )

  it('a list without end is an error, not a partial list', async () => {
    const { client } = await cluster(json({ metadata: { continue: 'x' }, items: [] }))
    expect((await failure(client.podUidsOnNode('n1', signal))).kind).toBe('malformed')
  })

  it.each(['', '..', '.', 'a/b', 'a%2fb', 'A', 'a b', 'a?x=y', 'a'.repeat(254), '-a', 'a..b'])(
    'the name %j is refused before any call',
    async (name) => {
      const { client, calls } = await cluster(json(object('u1')))
      for (const call of [
        client.serviceAccount('shop', name, signal),
        client.pod(name, 'web', signal),
        client.secretProviderClass('shop', name, signal),
        client.secretProviderClass(name, 'db', signal),
        client.node(name, signal),
        client.podUidsOnNode(name, signal),
      ]) {
        expect((await failure(call)).kind).toBe('config')
      }
      expect(calls).toEqual([])
    },
  )

  it('an API server with another authority gets no token', async () => {
    const { client, calls, directory } = await cluster(json(object('u1')))
    writeFileSync(join(directory, 'ca.crt'), createAuthority().ca)
    expect((await failure(client.pod('shop', 'web', signal))).kind).toBe('unavailable')
    expect(calls).toEqual([])
  })

  it('a missing token file is a fault of the set-up', async () => {
    const { client, calls, tokenFile } = await cluster(json(object('u1')))
    rmSync(tokenFile)
    expect((await failure(client.pod('shop', 'web', signal))).kind).toBe('config')
    expect(calls).toEqual([])
  })
})

describe('minting a token', () => {
  const request = {
    namespace: 'shop',
    serviceAccount: 'web',
    audiences: ['vault'],
    expirationSeconds: 600,
    pod: { name: 'web-0', uid: 'p1' },
  }

  it('T21 is refused unless it was switched on', async () => {
    const { client, calls } = await cluster(json({}))
    expect((await failure(client.mintToken(request, signal))).kind).toBe('config')
    expect(calls).toEqual([])
  })

  it('asks for a token bound to the pod', async () => {
    const answer = json({ status: { token: 'minted', expirationTimestamp: '2026-01-31T12:00:00Z' } }, 201)
    const { client, calls } = await cluster(answer, { allowTokenRequests: true })
    const { token, expiresAt } = await client.mintToken(request, signal)
    expect(token.reveal().toString()).toBe('minted')
    expect(expiresAt.toISOString()).toBe('2026-01-31T12:00:00.000Z')
    expect(JSON.parse(calls[0]?.body ?? '')).toMatchObject({
      kind: 'TokenRequest',
      spec: {
        audiences: ['vault'],
        expirationSeconds: 600,
        boundObjectRef: { kind: 'Pod', name: 'web-0', uid: 'p1' },
      },
    })
  })
})

describe('settings in the cluster', () => {
  it('come from the environment of a pod', () => {
    expect(
      inClusterSettings({ KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' })?.server,
    ).toBe('https://[fd00::1]:443')
    expect(inClusterSettings({})).toBeUndefined()
  })
})

describe('gone pods', () => {
  const until = async (condition: () => boolean) => {
    while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2))
  }

  it('are those no longer on the node; a failed read calls nobody gone', async () => {
    const gone: string[] = []
    let reads = 0
    const stop = watchGonePods({
      client: {
        podUidsOnNode: () => {
          reads += 1
          return reads === 1
            ? Promise.reject(new KubernetesError('denied', 'no'))
            : Promise.resolve(new Set(['stays']))
        },
      },
      node: 'n1',
      watched: () => ['stays', 'leaves'],
      onGone: (uid) => gone.push(uid),
      log: silentLogger,
      everyMs: 2,
    })
    await until(() => reads > 2)
    stop()
    expect(new Set(gone)).toEqual(new Set(['leaves']))
    const after = gone.length
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(gone).toHaveLength(after)
  })

  it('are not asked for while nobody waits', async () => {
    let reads = 0
    const stop = watchGonePods({
      client: { podUidsOnNode: () => Promise.resolve(new Set<string>(reads++ > 0 ? [] : [])) },
      node: 'n1',
      watched: () => [],
      onGone: () => {},
      log: silentLogger,
      everyMs: 1,
    })
    await new Promise((resolve) => setTimeout(resolve, 20))
    stop()
    expect(reads).toBe(0)
  })
})
