/**
 * Owns fetching the resources of one mount: each name once however many entries want it, so that two fields
 * of one secret come from one version; many at a time; one new login when a token is no longer accepted
 * (gcp.md sections 6 and 10.5).
 */
import { BackendError, SecretBytes, SelectError } from '../adapter.ts'
import type { Host, Value, ValuePart } from '../adapter.ts'
import type { Credentials } from './credentials.ts'
import { topLevel } from './extract.ts'
import type { GcpSession, Login } from './login.ts'
import type { ResourceName } from './names.ts'
import { resourceOf } from './resources.ts'
import type { GcpRef, Resource } from './resources.ts'
import type { GcpStore } from './settings.ts'

/** What a resource holds. */
export interface Payload {
  readonly bytes: Buffer
  readonly version: string
}

/** Fetches one resource with one token. @throws BackendError */
export type FetchResource = (resource: Resource, session: GcpSession, host: Host) => Promise<Payload>

/** Most calls of one mount at once. */
const PARALLEL = 32

type Outcome = Payload | BackendError

/** Values or errors in the order of `refs`. @throws BackendError when there are no credentials */
export async function fetchRefs(
  {
    kind,
    credentials,
    fetch,
  }: { kind: ResourceName['kind']; credentials: Credentials; fetch: FetchResource },
  store: GcpStore,
  refs: readonly GcpRef[],
  host: Host,
): Promise<readonly (Value | BackendError)[]> {
  const resources = refs.map((ref) => caught(() => resourceOf(store, ref, kind)))
  const distinct = new Map(
    resources.flatMap((resource) =>
      resource instanceof BackendError ? [] : [[resource.name, resource] as const],
    ),
  )
  const login = await credentials(store, host)
  const outcomes = await fetchAll([...distinct.values()], login, fetch, host)
  const values = refs.map((ref, index) => {
    const resource = resources[index]
    if (resource === undefined || resource instanceof BackendError) return resource ?? missing()
    const outcome = outcomes.get(resource.name) ?? missing()
    return outcome instanceof BackendError ? outcome : caught(() => valueOf(outcome, ref))
  })
  for (const outcome of outcomes.values()) if (!(outcome instanceof BackendError)) outcome.bytes.fill(0)
  return values
}

function missing(): BackendError {
  return new BackendError({
    kind: 'internal',
    code: 'INTERNAL',
    message: 'nothing was fetched for this object',
  })
}

function caught<T>(make: () => T): T | BackendError {
  try {
    return make()
  } catch (error) {
    if (error instanceof BackendError) return error
    throw error
  }
}

async function fetchAll(
  resources: readonly Resource[],
  { key, open }: Login,
  fetch: FetchResource,
  host: Host,
): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>()
  let session = await host.session(key, open)
  let wanted = resources
  for (const isLast of [false, true]) {
    const current = session
    await inParallel(wanted, async (resource) => {
      outcomes.set(resource.name, await settled(fetch(resource, current, host)))
    })
    wanted = wanted.filter(({ name }) => isUnauthenticated(outcomes.get(name)))
    if (isLast || wanted.length === 0) break
    session = await host.session(key, open)
    // Unless somebody else has renewed it meanwhile.
    if (session === current) {
      host.dropSession(key)
      session = await host.session(key, open)
    }
  }
  return outcomes
}

function isUnauthenticated(outcome: Outcome | undefined): boolean {
  return outcome instanceof BackendError && outcome.kind === 'unauthenticated'
}

async function settled(fetched: Promise<Payload>): Promise<Outcome> {
  try {
    return await fetched
  } catch (error) {
    if (error instanceof BackendError) return error
    throw error
  }
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values()
  const worker = async (): Promise<void> => {
    for (const item of queue) await work(item)
  }
  await Promise.all(Array.from({ length: Math.min(PARALLEL, items.length) }, worker))
}

function valueOf({ bytes, version }: Payload, ref: GcpRef): Value {
  const value = { bytes: SecretBytes.copyOf(bytes), version }
  return ref.parts === undefined ? value : { ...value, parts: partsOf(bytes) }
}

function partsOf(bytes: Buffer): readonly ValuePart[] {
  try {
    return [...topLevel(bytes)].map(([name, content]) => ({ name, bytes: SecretBytes.copyOf(content) }))
  } catch (error) {
    if (!(error instanceof SelectError)) throw error
    const { kind, code, message, remedy } = error
    throw new BackendError({ kind, code, message, remedy })
  }
}

/**
 * The bytes of a base64 member. Node would skip what is not base64.
 * @throws BackendError
 */
export function bytesOf(data: string): Buffer {
  const bytes = Buffer.from(data, 'base64')
  if (bytes.toString('base64') === data) return bytes
  throw malformed('its payload is not base64')
}

export function malformed(what: string): BackendError {
  return new BackendError({
    kind: 'malformed',
    code: 'GCP_REPLY',
    message: `the reply cannot be used: ${what}`,
    remedy: 'If an endpoint or proxy is configured, check that it passes replies on unchanged.',
  })
}

/** A resource name that a reply gives as its version: it is shown in the cluster. @throws BackendError */
export function versionOf(name: string): string {
  if (/^[A-Za-z0-9_.:/-]{1,512}$/.test(name)) return name
  throw malformed('it names no version')
}

/** Base URL of a resource: the operator's endpoint, else Google's. */
export function baseUrl(
  service: string,
  { location }: Pick<ResourceName, 'location'>,
  {
    endpoint,
    regionalEndpoint,
  }: { readonly endpoint?: string | undefined; readonly regionalEndpoint?: string | undefined },
): string {
  const base =
    location === undefined
      ? (endpoint ?? `https://${service}.googleapis.com`)
      : (regionalEndpoint ?? `https://${service}.{location}.rep.googleapis.com`).replaceAll(
          '{location}',
          location,
        )
  return base.replace(/\/$/, '')
}
