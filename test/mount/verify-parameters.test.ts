/** `verifyParameters: spc` in the assembled process, against an API server on loopback that records its calls. */
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createProviderProcess, type ProviderProcess } from '../../src/commands/provider-process.ts'
import { ConfigError, parseConfig } from '../../src/config.ts'
import { MountFailure } from '../../src/mount/errors.ts'
import { decodeMountRequest } from '../../src/mount/request.ts'
import { silentAudit } from '../../src/telemetry/audit.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { silentMeter } from '../../src/telemetry/metrics.ts'
import { OWNER, sopsNode, type SopsNode } from '../support/sops-node.ts'

const OBJECTS = '- objectName: password\n  path: /password\n'
const CLASS_PATH = '/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasses/db'

let node: SopsNode
const calls: string[] = []
/** What the API server answers; `undefined` leaves the call open. */
let answer: (request: IncomingMessage) => { status: number; body: string } | undefined
const api = createServer((request, response) => {
  calls.push(`${request.method} ${(request.url ?? '').replace(/\?$/, '')}`)
  const reply = answer(request)
  if (reply) response.writeHead(reply.status, { 'content-type': 'application/json' }).end(reply.body)
})
let server = ''

beforeAll(async () => {
  node = await sopsNode()
  node.put('shop/db.yaml', await node.sealed({ password: 'own' }))
  node.put('shop/other.yaml', await node.sealed({ password: 'other' }, [OWNER]))
  await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve))
  server = `http://127.0.0.1:${(api.address() as AddressInfo).port}`
})
afterAll(async () => {
  api.close()
  api.closeAllConnections()
  await node.close()
})

const own = { sopsFile: 'shop/db.yaml', objects: OBJECTS }
const holding =
  (parameters: unknown, provider = 'sops') =>
  () => ({
    status: 200,
    body: JSON.stringify({ metadata: { name: 'db', uid: 'u' }, spec: { provider, parameters } }),
  })
beforeEach(() => {
  calls.length = 0
  answer = holding(own)
})

async function provider(policy: object, kubernetes: unknown = { server }): Promise<ProviderProcess> {
  const text = readFileSync(node.config({ policy, kubernetes }), 'utf8')
  return createProviderProcess({
    loaded: parseConfig('c.yaml', text),
    log: silentLogger,
    audit: silentAudit,
    meter: silentMeter,
    env: {},
  })
}

/** Contents of the only file, or the error's text. */
async function mount(
  attributes: Record<string, string>,
  {
    policy = { verifyParameters: 'spc' },
    named = true,
    budgetMs = 5000,
  }: { policy?: object; named?: boolean; budgetMs?: number } = {},
): Promise<string> {
  const process = await provider(policy)
  const request = decodeMountRequest({
    attributes: JSON.stringify({
      ...own,
      ...attributes,
      ...(named && { secretProviderClass: 'db' }),
      'csi.storage.k8s.io/pod.name': 'web-0',
      'csi.storage.k8s.io/pod.namespace': 'shop',
      'csi.storage.k8s.io/pod.uid': 'u-1',
      'csi.storage.k8s.io/serviceAccount.name': 'web',
      'csi.storage.k8s.io/ephemeral': 'true',
    }),
    secrets: '',
    target_path: '',
    permission: '420',
  })
  try {
    const { files } = await process.pipeline(request, {
      provider: 'sops',
      signal: AbortSignal.timeout(budgetMs),
      deadline: Date.now() + budgetMs,
    })
    return files.map(({ contents }) => contents.toString()).join()
  } catch (error) {
    if (error instanceof MountFailure) return error.message
    throw error
  } finally {
    await process.close()
  }
}

describe('parameters that are those of the class', () => {
  it('T1 are mounted after one read of the class', async () => {
    expect(await mount({})).toBe('own')
    expect(calls).toEqual([`GET ${CLASS_PATH}`])
  })

  it('T1 by default nobody asks, and an override is the class’s word', async () => {
    expect(await mount({ sopsFile: 'shop/other.yaml' }, { policy: {} })).toBe('other')
    expect(calls).toEqual([])
  })

  it('keys of kubelet and the driver are no parameters on either side', async () => {
    answer = holding({ ...own, 'csi.storage.k8s.io/pod.name': 'x', providerName: 'y' })
    expect(await mount({ providerName: 'z' })).toBe('own')
  })
})

describe('parameters that are not those of the class', () => {
  it.each([
    ['changed', own, { sopsFile: 'shop/other.yaml' }, '"sopsFile" differ'],
    ['added', own, { keyIdentity: 'provider' }, '"keyIdentity" differ'],
    ['emptied', own, { objects: '' }, '"objects" differ'],
    ['left out', { ...own, expand: 'whole' }, {}, '"expand" differ'],
    ['added under a prototype name', own, { constructor: 'x' }, '"constructor" differ'],
    [
      'many',
      own,
      Object.fromEntries(Array.from('abcdefg', (key) => [key, 'canary'])),
      '"e" and 2 more differ',
    ],
    ['all, of a class without any', undefined, {}, '"sopsFile", "objects" differ'],
  ])('T1 %s: refused, by name and without values', async (_, parameters, attributes, named) => {
    answer = holding(parameters)
    const text = await mount(attributes)
    expect(text).toContain('PARAMETERS_OVERRIDDEN: what is mounted is not the SecretProviderClass shop/db: ')
    expect(text).toContain(named)
    expect(text).not.toMatch(/canary|other\.yaml/)
  })

  it('T1 a class of another provider is refused', async () => {
    answer = holding(own, 'vault')
    expect(await mount({})).toContain('"provider" differ')
  })
})

describe('a class that cannot be read', () => {
  it.each([
    [404, '{}', 'KUBERNETES_FAILED: SecretProviderClass shop/db: there is none (HTTP 404) [not-found]'],
    [403, '{"message":"canary"}', 'get on secretproviderclasses.secrets-store.csi.x-k8s.io'],
    [401, '{}', '[unauthenticated]'],
    [500, 'canary', '[unavailable]'],
    [200, 'canary', '[malformed]'],
    [200, '{}', '[malformed]'],
    [200, '[]', '[malformed]'],
  ])('T1 HTTP %i %j: nothing is mounted unverified', async (status, body, expected) => {
    answer = () => ({ status, body })
    const text = await mount({})
    expect(text).toContain(expected)
    expect(text).not.toContain('canary')
  })

  it('T1 an API server that never answers ends with the budget of the mount', async () => {
    answer = () => undefined
    expect(await mount({}, { budgetMs: 50 })).toContain('[timeout]')
  })

  it('T1 a driver that does not name the class is told so', async () => {
    expect(await mount({}, { named: false })).toContain('CLASS_NOT_NAMED')
    expect(calls).toEqual([])
  })

  it('T1 a class with a name that Kubernetes does not allow reaches no URL', async () => {
    expect(await mount({ secretProviderClass: 'x' }, { named: false })).toBe('own')
    expect(calls).toEqual([`GET ${CLASS_PATH.replace(/db$/, 'x')}`])
    calls.length = 0
    expect(await mount({ secretProviderClass: '../../pods/x' }, { named: false })).toContain('[config]')
    expect(calls).toEqual([])
  })
})

describe('the configuration', () => {
  it.each(['off', {}])(
    'T28 verifyParameters without an API (kubernetes: %j) stops the start',
    async (kubernetes) => {
      const start = provider({ verifyParameters: 'spc' }, kubernetes)
      await expect(start).rejects.toThrow(ConfigError)
      await expect(start).rejects.toThrow(
        /^c\.yaml:1:\d+: policy\.verifyParameters is spc, which needs the Kubernetes API/,
      )
    },
  )
})
