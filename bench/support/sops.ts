/** Owns the work that needs no cloud: sealed documents with known values, and Mount requests for them. */
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { randomBytes } from 'node:crypto'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sealNewDocument } from '../../src/providers/sops/write/new-document.ts'
import type { Format } from '../../src/providers/sops/stores/store.ts'
import type { WireMountRequest, WireMountResponse } from '../../src/rpc/contract.ts'

/** Whose document it is. */
const SUBJECTS = ['bench/*']

/** An age identity on disk and its public half. */
export interface BenchIdentity {
  readonly path: string
  readonly recipient: string
}

export async function createIdentity(directory: string): Promise<BenchIdentity> {
  const identity = await generateX25519Identity()
  const path = join(directory, 'bench.agekey')
  await writeFile(path, `${identity}\n`, { mode: 0o600 })
  await chmod(path, 0o400)
  return { path, recipient: await identityToRecipient(identity) }
}

/** Configuration of a server that opens our documents. `more` is laid over the top level. */
export function sopsConfig(
  { path }: BenchIdentity,
  more: Readonly<Record<string, unknown>> = {},
  roots: readonly string[] = [],
): string {
  return JSON.stringify({
    kubernetes: 'off',
    backends: {
      sops: {
        identities: [{ path, shared: true }],
        limits: { totalBytes: 4 * 1024 * 1024 },
        roots: roots.map((root) => ({ path: root, namespaced: false })),
      },
    },
    ...more,
  })
}

/** Values with random content, by file name. */
export function randomValues(count: number, bytes: number): Map<string, Buffer> {
  return new Map(
    Array.from({ length: count }, (_, i) => [
      `value-${i}`,
      // Printable, so that a document holds it as it is.
      Buffer.from(randomBytes(bytes).toString('base64url').slice(0, bytes)),
    ]),
  )
}

/** A document that holds the values, sealed to `recipient` for every service account of namespace `bench`. */
export async function sealedDocument(
  format: Format,
  values: ReadonlyMap<string, Buffer>,
  recipient: string,
): Promise<string> {
  const document = await sealNewDocument({
    format,
    values: [...values].map(([key, bytes]) => ({ key, bytes: Buffer.from(bytes) })),
    subjects: format === 'binary' ? [] : SUBJECTS,
    encryption: {
      recipients: [recipient],
      rule: { kind: 'unencrypted_suffix', text: '_unencrypted' },
      macOnlyEncrypted: false,
    },
    now: new Date(),
  })
  return document.toString()
}

export interface RequestOptions {
  readonly parameters: Readonly<Record<string, string>>
  readonly serviceAccount?: string
  readonly pod?: string
  readonly uid?: string
  readonly namespace?: string
  /** Kubelet's token text. */
  readonly tokens?: string
}

/** A token as kubelet gives it, with a signature nobody checks here: 1 KiB, as real ones are. */
function tokenText(namespace: string, serviceAccount: string, audience: string): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const expires = new Date(Date.now() + 3_600_000)
  const claims = {
    aud: [audience],
    exp: Math.floor(expires.getTime() / 1000),
    iss: 'https://kubernetes.default.svc.cluster.local',
    'kubernetes.io': {
      namespace,
      serviceaccount: { name: serviceAccount, uid: '00000000-0000-4000-8000-000000000001' },
    },
    sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
  }
  const token = `${part({ alg: 'RS256', kid: 'bench' })}.${part(claims)}.${Buffer.alloc(256, 7).toString('base64url')}`
  return JSON.stringify({ [audience]: { token, expirationTimestamp: expires.toISOString() } })
}

/** A Mount call as driver 1.6 sends it, a service-account token included. */
export function mountRequest(options: RequestOptions): WireMountRequest {
  const { namespace = 'bench', serviceAccount = 'web', pod = 'web-0', uid = 'uid-1' } = options
  return {
    attributes: JSON.stringify({
      'csi.storage.k8s.io/ephemeral': 'true',
      'csi.storage.k8s.io/pod.name': pod,
      'csi.storage.k8s.io/pod.namespace': namespace,
      'csi.storage.k8s.io/pod.uid': uid,
      'csi.storage.k8s.io/serviceAccount.name': serviceAccount,
      'csi.storage.k8s.io/serviceAccount.tokens':
        options.tokens ?? tokenText(namespace, serviceAccount, 'vault'),
      ...options.parameters,
      secretProviderClass: 'bench',
    }),
    secrets: '{}',
    target_path: `/var/lib/kubelet/pods/${uid}/volumes/kubernetes.io~csi/secrets/mount`,
    permission: '420',
    current_object_version: [],
  }
}

/** A mount of every value of an inline document, and the check that its answer is right. */
export async function inlineMount(
  values: ReadonlyMap<string, Buffer>,
  recipient: string,
): Promise<{ readonly request: WireMountRequest; check(answer: WireMountResponse): void }> {
  const sopsDocument = await sealedDocument('yaml', values, recipient)
  const objects = [...values.keys()].map((name) => `- { objectName: ${name}, path: /${name} }\n`).join('')
  return {
    request: mountRequest({ parameters: { sopsFormat: 'yaml', sopsDocument, objects } }),
    check: (answer) => checkFiles(answer, values),
  }
}

/** @throws Error when the answer is not exactly these files. */
export function checkFiles(answer: WireMountResponse, expected: ReadonlyMap<string, Uint8Array>): void {
  const right = answer.files.filter(({ path, contents }) => {
    const bytes = expected.get(path)
    return bytes !== undefined && Buffer.compare(bytes, contents) === 0
  })
  if (answer.files.length !== expected.size || right.length !== expected.size) {
    throw new Error(
      `a mount brought ${answer.files.length} files, ${right.length} of ${expected.size} as expected`,
    )
  }
}
