/** Owns every way a mount can go that the leak suite takes: what is sent, and how it must end. */
import type { VolumeRequest } from '../../src/driver/volume-request.ts'
import { sopsVolume, type SopsNode } from '../support/sops-node.ts'
import type { Canary } from './canary.ts'

export interface Canaries {
  /** What documents and stores hold. */
  readonly value: Canary
  /** What kubelet hands over as a service-account token. */
  readonly token: Canary
  /** What the node-publish Secret holds. */
  readonly secret: Canary
}

/** A mount, and the code its driver must see. */
export interface Case {
  readonly code: string
  readonly request: VolumeRequest
  /** Stands in the text of the failure. */
  readonly says?: RegExp
}

const inline = (sopsFormat: string, sopsDocument: string, objects?: string) => ({
  sopsFormat,
  sopsDocument,
  ...(objects === undefined ? {} : { objects }),
})

/** Puts other digits into the token of a key: what a damaged or forged document looks like. */
export function forged(document: string, key: string): string {
  const at = document.indexOf('data:', document.indexOf(`"${key}":`)) + 'data:'.length
  return document.slice(0, at) + (document[at] === 'A' ? 'B' : 'A') + document.slice(at + 1)
}

/** The cases under their names; each is a pod of its own. */
export async function mountCases(node: SopsNode, canaries: Canaries): Promise<Map<string, Case>> {
  const { text } = canaries.value
  const good = await node.sealed({ password: text, user: 'app' })
  const other = await node.sealed({ password: 'other', user: 'app' })
  const macOf = (document: string): string => /"mac": "(ENC\[[^\]]*\])/.exec(document)?.[1] ?? ''
  node.put('shop/db.yaml', good)
  node.put('shop/strange.yaml', `password: '${text}'\n`)
  const clear = { password_unencrypted: text, user: 'app' }
  const huge = await node.sealed({ data: `${text}\n`.repeat(12_000) }, ['shop/web'], 'yaml')
  const missing = '[{objectName: a, path: /absent}]'
  const sops = (parameters: Record<string, string>): VolumeRequest => sopsVolume(parameters)
  const cases: Record<string, Case> = {
    'from the store': { code: 'OK', request: sops({ sopsFile: 'shop/db.yaml' }) },
    inline: { code: 'OK', request: sops(inline('yaml', good)) },
    'with a clear value': { code: 'OK', request: sops(inline('yaml', await node.sealed(clear))) },
    'through a store over HTTP': { code: 'OK', request: http('good') },
    'without parameters that mean anything': { code: 'InvalidArgument', request: sops({ nothing: 'x' }) },
    'plaintext in the store': { code: 'InvalidArgument', request: sops({ sopsFile: 'shop/strange.yaml' }) },
    'plaintext pasted as YAML': {
      code: 'InvalidArgument',
      request: sops(inline('yaml', `password: '${text}'\n`)),
    },
    'broken YAML': { code: 'InvalidArgument', request: sops(inline('yaml', `a: [${text}\n b: "${text}`)) },
    'YAML with a tag': {
      code: 'InvalidArgument',
      request: sops(inline('yaml', `a: !!binary '${text}'\nb: !x '${text}'`)),
    },
    'YAML with the value as a key': {
      code: 'InvalidArgument',
      request: sops(inline('yaml', `? [${canaries.value.core}]\n: 1\n`)),
    },
    'plaintext as JSON': {
      code: 'InvalidArgument',
      request: sops(inline('json', JSON.stringify({ password: text }))),
    },
    'broken JSON': { code: 'InvalidArgument', request: sops(inline('json', `{"password": ${text}}`)) },
    'plaintext as dotenv': {
      code: 'InvalidArgument',
      request: sops(inline('dotenv', `PASSWORD=${text}\n${canaries.value.core}`)),
    },
    'plaintext as INI': {
      code: 'InvalidArgument',
      request: sops(inline('ini', `[db]\npassword = ${text}\n[${text}\n`)),
    },
    'plaintext as binary': {
      code: 'InvalidArgument',
      request: sops(inline('binary', text, '[{objectName: a}]')),
    },
    'no base64': { code: 'InvalidArgument', request: sops({ sopsFormat: 'yaml', sopsDocumentBase64: text }) },
    'another service account': {
      code: 'PermissionDenied',
      request: {
        ...sops(inline('yaml', good)),
        pod: { name: 'thief', namespace: 'shop', serviceAccount: 'other' },
      },
      says: /NOT_BOUND/,
    },
    'a damaged value': {
      code: 'DataLoss',
      request: sops(inline('yaml', forged(good, 'password'))),
      says: /TOKEN_INVALID/,
    },
    'the MAC of another document': {
      code: 'DataLoss',
      request: sops(inline('yaml', good.replace(macOf(good), macOf(other)))),
      says: /MAC|TOKEN/,
    },
    'a value taken away': {
      code: 'DataLoss',
      request: sops(inline('yaml', good.replace(/^"user":.*\n/m, ''))),
      says: /MAC_MISMATCH/,
    },
    'a damaged binding': { code: 'DataLoss', request: sops(inline('yaml', forged(good, 'csi_bind'))) },
    'a damaged data key': {
      code: 'PermissionDenied',
      request: sops(inline('yaml', good.replace('BEGIN AGE', 'BEGIN EGA'))),
    },
    'a missing key': { code: 'NotFound', request: sops({ sopsFile: 'shop/db.yaml', objects: missing }) },
    'a missing file': { code: 'NotFound', request: sops({ sopsFile: 'shop/absent.yaml' }) },
    'a value that is no base64': {
      code: 'InvalidArgument',
      request: sops({
        sopsFile: 'shop/db.yaml',
        objects: '[{objectName: a, path: /password, encoding: base64}]',
      }),
    },
    'a value that is no hex': {
      code: 'InvalidArgument',
      request: sops({
        sopsFile: 'shop/db.yaml',
        objects: '[{objectName: a, path: /password, encoding: hex}]',
      }),
    },
    'a path into a value': {
      code: 'NotFound',
      request: sops({ sopsFile: 'shop/db.yaml', objects: '[{objectName: a, path: /password/deeper/0}]' }),
    },
    'over the size limit': {
      code: 'OutOfRange',
      request: sops(inline('yaml', huge)),
      says: /LIMIT_EXCEEDED/,
    },
    'an unknown provider': {
      code: 'Unknown',
      request: { ...http('good'), spc: { name: 'no', provider: 'nobody', parameters: { keys: text } } },
    },
    'a store that fails and repeats what it was sent': { code: 'FailedPrecondition', request: http('fails') },
    'a store that refuses and repeats what it was sent': {
      code: 'PermissionDenied',
      request: http('refuses'),
    },
    'a store that breaks off': { code: 'DataLoss', request: http('breaks') },
    'a value over the size limit': { code: 'OutOfRange', request: http('huge') },
    'tokens that are a list': {
      code: 'InvalidArgument',
      request: withTokens(canaries, `["${canaries.token.core}"]`),
    },
    'tokens that are cut off': {
      code: 'InvalidArgument',
      request: withTokens(canaries, `{"http-values": "${canaries.token.core}`),
    },
    'tokens of another shape': {
      code: 'Unauthenticated',
      request: withTokens(canaries, JSON.stringify({ 'http-values': canaries.token.text })),
    },
    'a token that has expired': {
      code: 'Unauthenticated',
      request: {
        ...http('good'),
        tokens: {
          'http-values': { token: canaries.token.core, expirationTimestamp: '2020-01-01T00:00:00Z' },
        },
      },
    },
  }
  return new Map(
    Object.entries(cases).map(([name, one], index) => {
      const pod = { namespace: 'shop', serviceAccount: 'web', ...one.request.pod, name: `pod-${index}` }
      const tokens = one.request.tokens ?? tokensOf(canaries)
      const secrets = { password: canaries.secret.text, username: canaries.secret.core }
      const plain = one.request.volumeAttributes?.[TOKENS] !== undefined
      return [name, { ...one, request: { ...one.request, pod, ...(plain ? {} : { tokens }), secrets } }]
    }),
  )
}

const TOKENS = 'csi.storage.k8s.io/serviceAccount.tokens'

/** A token as kubelet's: three parts, of which the middle one is JSON. */
export function tokensOf({ token }: Canaries): Record<string, string> {
  const claims = Buffer.from(
    JSON.stringify({ sub: token.text, 'kubernetes.io': { serviceaccount: { uid: 'u' } } }),
  )
  return { 'http-values': `${token.core}.${claims.toString('base64url')}.${token.core}` }
}

function http(keys: string): VolumeRequest {
  return { pod: { name: 'web' }, spc: { name: 'values', provider: 'http-values', parameters: { keys } } }
}

/** Tokens that no kubelet would send: those of a pod's author. */
function withTokens(_canaries: Canaries, text: string): VolumeRequest {
  return { ...http('good'), volumeAttributes: { [TOKENS]: text } }
}
