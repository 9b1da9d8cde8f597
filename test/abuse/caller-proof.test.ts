/** Owns abuse of `callerProof: {level: token}` over the real process: forged and borrowed tokens (sops B3, T4, T5, T19). */
import { createHmac, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import type { TestNode, VolumeResult } from '../../src/driver/node.ts'
import { podFacts } from '../../src/driver/volume-request.ts'
import type { ServeProcess } from '../support/serve-process.ts'
import { sopsNode, sopsVolume, type SopsNode } from '../support/sops-node.ts'

const ISSUER = 'https://kubernetes.default.svc.cluster.local'
const AUDIENCE = 'keyferry'
const TOKENS = 'csi.storage.k8s.io/serviceAccount.tokens'
const cluster = generateKeyPairSync('rsa', { modulusLength: 2048 })
const foreign = generateKeyPairSync('rsa', { modulusLength: 2048 })

type Pod = Parameters<typeof podFacts>[0]
const OWNER: Pod = { name: 'web-0', namespace: 'shop', serviceAccount: 'web' }

let here: SopsNode
let served: ServeProcess
let node: TestNode
let jwksFile: string
let targets = 0

beforeAll(async () => {
  here = await sopsNode()
  here.put('shop/db.yaml', await here.sealed({ user: 'app' }))
  jwksFile = join(here.directory, 'jwks.json')
  writeFileSync(jwksFile, jwks(cluster.publicKey))
  served = await here.serve({
    config: here.config({
      backends: {
        sops: {
          roots: [{ path: here.store }],
          identities: [{ path: here.identity, shared: true }],
          callerProof: { level: 'token', issuer: ISSUER, audience: AUDIENCE, jwksFile },
        },
      },
    }),
  })
  node = await here.node()
})
afterAll(() => here.close())

function jwks(key: KeyObject): string {
  return JSON.stringify({ keys: [{ ...key.export({ format: 'jwk' }), kid: 'k', use: 'sig', alg: 'RS256' }] })
}

function claimsOf(pod: Pod, changes: object = {}): object {
  const { name, namespace, uid, serviceAccount } = podFacts(pod)
  const now = Math.floor(Date.now() / 1000)
  return {
    iss: ISSUER,
    aud: [AUDIENCE],
    exp: now + 600,
    nbf: now - 5,
    'kubernetes.io': {
      namespace,
      serviceaccount: { name: serviceAccount, uid: 'sa-uid' },
      pod: { name, uid },
    },
    ...changes,
  }
}

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

function jwt(
  claims: object,
  key: KeyObject = cluster.privateKey,
  head: object = { alg: 'RS256', kid: 'k' },
): string {
  const signed = `${part(head)}.${part(claims)}`
  return `${signed}.${sign('sha256', Buffer.from(signed), key).toString('base64url')}`
}

async function publish(
  pod: Pod,
  token: string | undefined,
  attributes: Record<string, string> = {},
): Promise<VolumeResult> {
  targets += 1
  return node.publish({
    ...sopsVolume({ sopsFile: 'shop/db.yaml' }),
    pod,
    volumeName: `v${targets}`,
    tokens: token === undefined ? {} : { [AUDIENCE]: token },
    volumeAttributes: attributes,
  })
}

/** The status text without what the driver puts before it. */
const told = ({ message }: VolumeResult): string => message.replace(/^.* desc = /s, '')

describe('callerProof: {level: token}', () => {
  it('sops B3 a pod with a token of its own is served', async () => {
    const result = await publish(OWNER, jwt(claimsOf(OWNER)))
    expect(result).toMatchObject({ code: 'OK' })
    expect([...node.files(result.target).keys()]).toEqual(['user'])
  })

  const now = Math.floor(Date.now() / 1000)
  const hs256 = (): string => {
    const signed = `${part({ alg: 'HS256', kid: 'k' })}.${part(claimsOf(OWNER))}`
    const pem = cluster.publicKey.export({ type: 'spki', format: 'pem' })
    return `${signed}.${createHmac('sha256', pem).update(signed).digest('base64url')}`
  }
  const forgeries: readonly [string, () => string | undefined][] = [
    ['no token', () => undefined],
    ['an empty token', () => ''],
    ['a token of another service account', () => jwt(claimsOf({ ...OWNER, serviceAccount: 'other' }))],
    ['a token of another namespace', () => jwt(claimsOf({ ...OWNER, namespace: 'bank' }))],
    ['a token of another pod of the same service account', () => jwt(claimsOf({ ...OWNER, name: 'web-1' }))],
    ['a token of a pod before it of the same name', () => jwt(claimsOf({ ...OWNER, uid: 'old' }))],
    ['a token for another audience', () => jwt(claimsOf(OWNER, { aud: ['vault'] }))],
    ['a token of another issuer', () => jwt(claimsOf(OWNER, { iss: 'https://evil.example' }))],
    ['a token that has expired', () => jwt(claimsOf(OWNER, { exp: now - 1 }))],
    ['a token that is not valid yet', () => jwt(claimsOf(OWNER, { nbf: now + 3600 }))],
    ['a token signed by another key', () => jwt(claimsOf(OWNER), foreign.privateKey)],
    ['alg none', () => `${part({ alg: 'none' })}.${part(claimsOf(OWNER))}.`],
    ['HS256 with the public key', hs256],
    [
      'a token whose claims were changed',
      () => jwt(claimsOf({ ...OWNER, name: 'web-1' })).replace(/\.[^.]*\./, `.${part(claimsOf(OWNER))}.`),
    ],
  ]
  test.each(forgeries)('T4 %s is refused like a service account that is not bound', async (_name, token) => {
    const unbound = { ...OWNER, serviceAccount: 'other', name: 'other' }
    const stranger = await publish(unbound, jwt(claimsOf(unbound)))
    const forged = await publish(OWNER, token())
    expect({ code: forged.code, told: told(forged) }).toEqual({
      code: 'PermissionDenied',
      told: told(stranger),
    })
    expect(told(forged)).toContain('NOT_BOUND')
    expect(node.files(forged.target).size).toBe(0)
  })

  it('T4 the log says what was wrong, without the token', async () => {
    const token = jwt(claimsOf(OWNER, { aud: ['vault'] }))
    await publish(OWNER, token)
    expect(served.output()).toContain('it is for another audience')
    for (const piece of token.split('.')) expect(served.output()).not.toContain(piece)
  })

  it('T4 a token laid into the volumeAttributes counts for nothing more than its signature', async () => {
    const entry = (token: string): string =>
      JSON.stringify({ [AUDIENCE]: { token, expirationTimestamp: '2099-01-01T00:00:00Z' } })
    const forged = await publish(OWNER, undefined, {
      [TOKENS]: entry(jwt(claimsOf(OWNER), foreign.privateKey)),
    })
    expect(forged).toMatchObject({ code: 'PermissionDenied' })
    const others = await publish({ ...OWNER, name: 'thief', serviceAccount: 'other' }, undefined, {
      [TOKENS]: entry(jwt(claimsOf(OWNER))),
    })
    expect(others).toMatchObject({ code: 'PermissionDenied' })
  })

  it('T5 what the owner has just mounted is in no cache that a caller without proof can reach', async () => {
    // The unverified uid in a token splits the cache; these claim the owner's.
    for (const wrong of [jwt(claimsOf(OWNER), foreign.privateKey), jwt(claimsOf(OWNER, { exp: 1 }))]) {
      expect(await publish(OWNER, jwt(claimsOf(OWNER)))).toMatchObject({ code: 'OK' })
      expect(await publish(OWNER, wrong)).toMatchObject({ code: 'PermissionDenied' })
    }
    expect(served.output()).toContain('"from":"cache"')
  })

  it('sops B3 keys that were rotated count from the next mount on, and without keys nobody is served', async () => {
    const old = jwt(claimsOf(OWNER))
    const fresh = jwt(claimsOf(OWNER), foreign.privateKey)
    renameSync(jwksFile, `${jwksFile}.old`)
    const absent = await publish(OWNER, old)
    expect(absent).toMatchObject({ code: 'FailedPrecondition' })
    expect(told(absent)).toContain('KEY_SERVICE_UNAVAILABLE')
    writeFileSync(jwksFile, '{"keys": [')
    expect(await publish(OWNER, old)).toMatchObject({ code: 'FailedPrecondition' })
    writeFileSync(jwksFile, jwks(foreign.publicKey))
    expect(await publish(OWNER, fresh)).toMatchObject({ code: 'OK' })
    expect(await publish(OWNER, old)).toMatchObject({ code: 'PermissionDenied' })
    renameSync(`${jwksFile}.old`, jwksFile)
    expect(await publish(OWNER, old)).toMatchObject({ code: 'OK' })
  })

  it('sops B3 the level token without issuer, audience or keys is no configuration', async () => {
    const sops = (callerProof: object): string => here.config({ backends: { sops: { callerProof } } })
    const whole = { level: 'token', issuer: ISSUER, audience: AUDIENCE, jwksFile }
    for (const key of ['issuer', 'audience', 'jwksFile'] as const) {
      const { [key]: _, ...rest } = whole
      await expect(here.serve({ config: sops(rest) })).rejects.toThrow(/backends\.sops\.callerProof/)
    }
    await expect(here.serve({ config: sops({ level: 'tokn' }) })).rejects.toThrow(
      /backends\.sops\.callerProof/,
    )
  })
})
