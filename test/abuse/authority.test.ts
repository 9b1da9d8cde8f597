/**
 * Owns abuse of authority over the real process: parameters from the pod, stolen documents, forged
 * callers, and what a refusal gives away (T1, T2, T3, T4, T19).
 */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import type { TestNode, VolumeResult } from '../../src/driver/node.ts'
import type { VolumeRequest } from '../../src/driver/volume-request.ts'
import { connectProvider, type ProviderClient } from '../../src/rpc/contract.ts'
import { sopsNode, sopsVolume, type SopsNode } from '../support/sops-node.ts'

const SECRET = 'the-owner-s-password'
let here: SopsNode
let node: TestNode
let client: ProviderClient
let document: string
let pods = 0

beforeAll(async () => {
  here = await sopsNode()
  document = await here.sealed({ password: SECRET }, ['shop/web'])
  here.put('shop/db.yaml', document)
  here.put('bank/db.yaml', await here.sealed({ password: 'of the bank' }, ['bank/web']))
  await here.serve()
  node = await here.node()
  client = connectProvider(join(here.sockets, 'sops.sock'))
  here.afterwards(() => client.close())
})
afterAll(() => here.close())

/** Publishes for a fresh pod, so that no earlier mount can help. */
async function publish(subject: string, request: Partial<VolumeRequest>): Promise<VolumeResult> {
  const [namespace = '', serviceAccount = ''] = subject.split('/')
  pods += 1
  return node.publish({
    ...fromStore('shop/nothing.yaml'),
    ...request,
    pod: { name: `pod-${pods}`, namespace, serviceAccount },
  })
}

const fromStore = (sopsFile: string) => sopsVolume({ sopsFile })

/** The status text without what the driver puts before it: the pod's own name. */
function told({ message }: VolumeResult): string {
  return message.replace(/^.* desc = /s, '')
}

/** What of the volume a pod got to see. */
function seen({ target }: VolumeResult): string[] {
  return [...node.files(target).values()].map(({ contents }) => contents.toString())
}

describe('T1 parameters that the pod lays over its SecretProviderClass', () => {
  // The class of a pod that may mount nothing, and each parameter its author could replace.
  const overrides: readonly [string, Record<string, string>][] = [
    ['sopsFile, to a document of its namespace', { sopsFile: 'shop/db.yaml' }],
    ['sopsFile, to a document of another namespace', { sopsFile: 'bank/db.yaml' }],
    ['sopsFile, to a directory', { sopsFile: 'shop/' }],
    ['sopsFile, out of the root', { sopsFile: '../keys/node.agekey' }],
    ['sopsFile, to an absolute path', { sopsFile: '/etc/passwd' }],
    ['keyIdentity: provider', { sopsFile: 'shop/db.yaml', keyIdentity: 'provider' }],
    ['keyIdentity: pod', { sopsFile: 'shop/db.yaml', keyIdentity: 'pod' }],
    ['allowCleartext', { sopsFile: 'shop/db.yaml', allowCleartext: 'true' }],
    ['expand', { sopsFile: 'shop/db.yaml', expand: 'whole' }],
    ['objects', { sopsFile: 'shop/db.yaml', objects: '[{objectName: a, path: /password}]' }],
    [
      'objects, for the binding itself',
      { sopsFile: 'shop/db.yaml', objects: '[{objectName: a, path: /csi_bind}]' },
    ],
    ['sopsFormat', { sopsFile: 'shop/db.yaml', sopsFormat: 'binary' }],
    ['namespace facts', { sopsFile: 'shop/db.yaml', 'csi.storage.k8s.io/pod.namespace': 'shop' }],
    ['service-account facts', { sopsFile: 'shop/db.yaml', 'csi.storage.k8s.io/serviceAccount.name': 'web' }],
    [
      'pod facts',
      { sopsFile: 'shop/db.yaml', 'csi.storage.k8s.io/pod.uid': 'x', 'csi.storage.k8s.io/pod.name': 'web-0' },
    ],
    ['the backend', { sopsFile: 'shop/db.yaml', backend: 'sops', identity: 'node', store: 'x' }],
  ]
  test.each(overrides)('T1 %s gives a stranger nothing', async (_name, volumeAttributes) => {
    for (const subject of ['shop/other', 'bank/other', 'other/web']) {
      const result = await publish(subject, { volumeAttributes })
      expect(['PermissionDenied', 'InvalidArgument', 'NotFound', 'DataLoss']).toContain(result.code)
      expect(seen(result)).toEqual([])
      expect(result.message).not.toContain(SECRET)
    }
  })

  it('T1 with the document inside the volumeAttributes, a stranger gets nothing either', async () => {
    const volumeAttributes = { sopsDocument: document, sopsFormat: 'yaml', sopsFile: '' }
    expect(await publish('shop/other', { volumeAttributes })).toMatchObject({ code: 'PermissionDenied' })
  })

  it('T1 the rightful owner is served whatever way the same parameters come', async () => {
    const result = await publish('shop/web', { volumeAttributes: { sopsFile: 'shop/db.yaml' } })
    expect(result).toMatchObject({ code: 'OK' })
    expect(seen(result)).toEqual([SECRET])
  })

  it("T2 the provider's identity is refused unless the operator named the service account", async () => {
    const volume = sopsVolume({ sopsFile: 'shop/db.yaml', keyIdentity: 'provider' })
    const result = await publish('shop/web', volume)
    expect(result).toMatchObject({ code: 'PermissionDenied' })
    expect(told(result)).toContain('IDENTITY_NOT_ALLOWED')
  })
})

describe('T3 a document that was copied', () => {
  it.each(['shop/other', 'bank/web', 'bank/shop', 'web/shop', 'shop/webb', 'shop/we', 'sho/pweb'])(
    'T3 pasted into a class of %s does not open',
    async (subject) => {
      const result = await publish(subject, sopsVolume({ sopsDocument: document, sopsFormat: 'yaml' }))
      expect(result).toMatchObject({ code: 'PermissionDenied' })
      expect(seen(result)).toEqual([])
    },
  )

  it('T3 put into the store under another namespace does not open there', async () => {
    here.put('bank/stolen.yaml', document)
    expect(await publish('bank/web', fromStore('bank/stolen.yaml'))).toMatchObject({
      code: 'PermissionDenied',
    })
    expect(await publish('bank/web', fromStore('bank/db.yaml'))).toMatchObject({ code: 'OK' })
  })

  it('T3 without its binding, or with the binding of another document, does not open', async () => {
    const others = await here.sealed({ password: 'mine' }, ['bank/web'])
    const line = /^"csi_bind": .*$/m
    const without = document.replace(/^"csi_bind": .*\n/m, '')
    const clear = document.replace(line, '"csi_bind": "bank/web"')
    const swapped = document.replace(line, line.exec(others)?.[0] ?? '')
    const twice = `${line.exec(others)?.[0]}\n${document}`
    for (const forged of [without, clear, swapped, twice]) {
      expect(forged).not.toBe(document)
      const result = await publish('bank/web', sopsVolume({ sopsDocument: forged, sopsFormat: 'yaml' }))
      expect(['PermissionDenied', 'DataLoss', 'InvalidArgument']).toContain(result.code)
      expect(seen(result)).toEqual([])
    }
  })

  it('T3 what the owner has just mounted is in no cache that a stranger can reach', async () => {
    const volume = fromStore('shop/db.yaml')
    expect(await publish('shop/web', volume)).toMatchObject({ code: 'OK' })
    expect(await publish('shop/other', volume)).toMatchObject({ code: 'PermissionDenied' })
    const [owner, ...strangers] = await Promise.all(
      ['shop/web', 'shop/other', 'shop/another', 'bank/web'].map((subject) => publish(subject, volume)),
    )
    expect(owner).toMatchObject({ code: 'OK' })
    for (const stranger of strangers) expect(seen(stranger)).toEqual([])
  })

  it('T3 a binding to every service account counts only if the operator allows it', async () => {
    const everyone = await here.sealed({ password: 'for all' }, ['*/*'])
    const result = await publish('shop/web', sopsVolume({ sopsDocument: everyone, sopsFormat: 'yaml' }))
    expect(result).toMatchObject({ code: 'PermissionDenied' })
  })
})

describe('T4 forged callers', () => {
  const FACTS = {
    'csi.storage.k8s.io/pod.name': 'web-0',
    'csi.storage.k8s.io/pod.namespace': 'shop',
    'csi.storage.k8s.io/pod.uid': '6c0e8a1d-1111-4222-8333-944455566677',
    'csi.storage.k8s.io/serviceAccount.name': 'web',
  } as const

  async function call(attributes: Record<string, string>): Promise<{ code: number; text: string }> {
    const request = {
      attributes: JSON.stringify({ ...attributes, sopsFile: 'shop/db.yaml' }),
      secrets: '',
      target_path: '',
      permission: '420',
      current_object_version: [],
    }
    return client.mount(request, { deadlineMs: 10_000 }).then(
      () => ({ code: 0, text: '' }),
      ({ code, details }: { code: number; details: string }) => ({ code, text: details }),
    )
  }

  test.each(Object.keys(FACTS))('T4 a request without %s is refused and says what to set', async (key) => {
    for (const missing of [undefined, '']) {
      const { [key]: _, ...others } = { ...FACTS } as Record<string, string>
      const { code, text } = await call(missing === undefined ? others : { ...others, [key]: missing })
      expect(code).toBe(3)
      expect(text).toContain(key)
      expect(text).toContain('podInfoOnMount')
    }
    expect(await call(FACTS)).toEqual({ code: 0, text: '' })
  })

  it('T4 identity facts among the volumeAttributes lose against those of kubelet', async () => {
    const forged = { ...FACTS, 'csi.storage.k8s.io/serviceAccount.name': 'web' }
    expect(
      await publish('shop/other', { ...fromStore('shop/db.yaml'), volumeAttributes: forged }),
    ).toMatchObject({
      code: 'PermissionDenied',
    })
  })

  const claims = {
    sub: 'system:serviceaccount:shop:web',
    'kubernetes.io': { namespace: 'shop', serviceaccount: { name: 'web', uid: 'u' } },
  }
  const jwt = (head: object): string =>
    [head, claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.')
      .concat('.c2ln')
  const entry = (token: string) =>
    JSON.stringify({
      keyferry: { token, expirationTimestamp: '2099-01-01T00:00:00Z' },
      '': { token, expirationTimestamp: '2099-01-01T00:00:00Z' },
    })
  const forgeries: readonly [string, string][] = [
    ['alg none', entry(jwt({ alg: 'none' }))],
    ['HS256', entry(jwt({ alg: 'HS256' }))],
    ['no JWT at all', entry('x')],
    ['a list', '[]'],
    ['no JSON', '{'],
    ['keys of Object.prototype', '{"__proto__": {"token": "x"}, "constructor": {"token": "x"}}'],
    ['nested deeply', `${'['.repeat(10_000)}${']'.repeat(10_000)}`],
    ['a megabyte', entry('a'.repeat(1024 * 1024))],
  ]
  test.each(forgeries)('T4 tokens from the pod, %s, make nobody the owner', async (_name, tokens) => {
    const volumeAttributes = { 'csi.storage.k8s.io/serviceAccount.tokens': tokens }
    const stranger = await publish('shop/other', { ...fromStore('shop/db.yaml'), volumeAttributes })
    expect(['PermissionDenied', 'InvalidArgument']).toContain(stranger.code)
    expect(seen(stranger)).toEqual([])
  })
})

describe('T19 what a refusal gives away', () => {
  it('T19 unbound callers get one reply, whatever the document is and holds', async () => {
    here.put('shop/many.yaml', await here.sealed({ a: '1', b: '2' }, ['shop/one', 'bank/two']))
    here.put('shop/all.yaml', await here.sealed({ a: '1' }, ['*/*']))
    const replies = await Promise.all(
      [
        sopsVolume({ sopsFile: 'shop/db.yaml', objects: '[{objectName: a, path: /password}]' }),
        sopsVolume({ sopsFile: 'shop/db.yaml', objects: '[{objectName: a, path: /absent}]' }),
        sopsVolume({ sopsFile: 'shop/db.yaml', objects: '[{objectName: a, path: /csi_bind}]' }),
        sopsVolume({
          sopsFile: 'shop/db.yaml',
          objects: '[{objectName: a, path: /password, encoding: hex}]',
        }),
        sopsVolume({ sopsFile: 'shop/db.yaml', objects: '[{objectName: a, path: /password/0}]' }),
      ].map((volume) => publish('shop/other', volume)),
    )
    const texts = new Set(replies.map(told))
    expect([...texts]).toHaveLength(1)
    expect(replies.map(({ code }) => code)).toEqual(replies.map(() => 'PermissionDenied'))
    const others = await Promise.all(
      ['shop/many.yaml', 'shop/all.yaml', 'shop/db.yaml'].map((file) =>
        publish('shop/other', fromStore(file)),
      ),
    )
    // Only the name that the caller gave himself differs.
    expect(new Set(others.map((reply) => told(reply).replaceAll(/shop\/\w+\.yaml/g, 'FILE'))).size).toBe(1)
  })

  it('T19 a file of another namespace and one that is not there get the same reply', async () => {
    const there = await publish('shop/web', fromStore('bank/db.yaml'))
    const absent = await publish('shop/web', fromStore('bank/absent.yaml'))
    const nowhere = await publish('shop/web', fromStore('nobody/db.yaml'))
    const plain = (result: VolumeResult): string => told(result).replaceAll(/\w+\/\w+\.yaml/g, 'FILE')
    expect(new Set([there, absent, nowhere].map(plain)).size).toBe(1)
    expect(new Set([there, absent, nowhere].map(({ code }) => code)).size).toBe(1)
  })
})
