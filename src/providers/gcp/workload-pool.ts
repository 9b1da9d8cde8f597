/** Owns finding out which workload identity pool the pod's tokens belong to (gcp.md section 10.4, steps 1 and 2). */
import { readFile } from 'node:fs/promises'
import { BackendError } from '../adapter.ts'
import { send, text } from './api.ts'
import { authFailure } from './login.ts'
import { memo } from './memo.ts'
import type { GcpEnvironment } from './settings.ts'

/** Where the pod's identity lives. */
export interface WorkloadPool {
  /** Audience of the exchange. */
  readonly audience: string
  /** `<project>.svc.id.goog` or a fleet's pool; `undefined` for workload identity federation. */
  readonly pool: string | undefined
}

/** Whether a provider of workload identity federation decides: it may look at claims of the pod. */
export function isFederated({ audience }: WorkloadPool): boolean {
  return audience.startsWith('//iam.')
}

/** Time the metadata server has: off Google Cloud nobody answers there. */
const METADATA_TIMEOUT_MS = 2000
/** How long it is not asked again when it did not answer. */
const METADATA_PAUSE_MS = 60_000

/** Text of a metadata path. @throws BackendError */
export async function metadata(
  environment: GcpEnvironment,
  path: string,
  timeoutMs = METADATA_TIMEOUT_MS,
): Promise<string> {
  const reply = await send(environment, {
    kind: 'metadata_requests',
    url: `${environment.metadataUrl}/${path}`,
    headers: { 'metadata-flavor': 'Google' },
    to: environment.direct,
    signal: AbortSignal.timeout(timeoutMs),
    timeoutMs,
  })
  if (reply.status === 200 && reply.headers['metadata-flavor'] === 'Google') return reply.body.toString()
  const what = reply.status === 200 ? 'is not Google’s' : `answered HTTP ${reply.status} for ${path}`
  throw new BackendError({
    kind: reply.status >= 500 ? 'unavailable' : 'denied',
    code: 'GCP_METADATA',
    message: `the metadata server ${what}`,
  })
}

/** The pool; asked for once and then known. @throws BackendError naming what was tried */
export function workloadPoolOf(environment: GcpEnvironment): () => Promise<WorkloadPool> {
  const { project, clusterLocation, clusterName, workloadIdentityEndpoint } = environment
  return memo(async () => {
    try {
      const [p, l, c] = await Promise.all([
        project ?? metadata(environment, 'project/project-id'),
        clusterLocation ?? metadata(environment, 'instance/attributes/cluster-location'),
        clusterName ?? metadata(environment, 'instance/attributes/cluster-name'),
      ])
      const pool = `${p}.svc.id.goog`
      const provider = `${workloadIdentityEndpoint}/projects/${p}/locations/${l}/clusters/${c}`
      return { pool, audience: `identitynamespace:${pool}:${provider}` }
    } catch (error) {
      if (!(error instanceof BackendError)) throw error
      return configuredPool(environment.credentialsFile, error)
    }
  }, METADATA_PAUSE_MS)
}

async function configuredPool(file: string | undefined, metadataError: BackendError): Promise<WorkloadPool> {
  const refuse = (why: string): BackendError =>
    authFailure(
      'GCP_NO_POOL',
      `the workload identity pool is not known: ${metadataError.message}; ${why}`,
      'On GKE enable workload identity; elsewhere set GOOGLE_APPLICATION_CREDENTIALS to a credential configuration, or PROJECT, CLUSTER_NAME and CLUSTER_LOCATION.',
    )
  if (file === undefined) throw refuse('GOOGLE_APPLICATION_CREDENTIALS is not set')
  let parsed: unknown
  try {
    parsed = JSON.parse(await readFile(file, 'utf8'))
  } catch {
    throw refuse(`${file} is not a readable JSON file`)
  }
  const { type, audience } = { type: undefined, audience: undefined, ...Object(parsed) } as Record<
    string,
    unknown
  >
  if (type !== 'external_account') throw refuse(`${file} is not of type external_account`)
  const whole = text(audience)
  if (whole === '') throw refuse(`${file} has no audience`)
  // A fleet: identitynamespace:POOL:PROVIDER, where the provider has colons of its own.
  const first = whole.indexOf(':')
  const second = first === -1 ? -1 : whole.indexOf(':', first + 1)
  return second === -1
    ? { audience: whole, pool: undefined }
    : { audience: `identitynamespace:${whole.slice(first + 1)}`, pool: whole.slice(first + 1, second) }
}
