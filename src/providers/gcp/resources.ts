/** Owns how a store and a ref name a resource, and at which address it is fetched (gcp.md section 5). */
import * as v from 'valibot'
import type { RefItem } from '../adapter.ts'
import { BackendError, PlanError } from '../adapter.ts'
import { parseResourceName } from './names.ts'
import type { ResourceName } from './names.ts'
import type { GcpStore } from './settings.ts'

export const SECRET_MANAGER = 'gcp-secret-manager'
export const PARAMETER_MANAGER = 'gcp-parameter-manager'

/** What to fetch. */
export interface GcpRef {
  /** A full name, or one below the store's project and location: `secrets/S/versions/V`. */
  readonly name: string
  /** Also give each top-level key of the payload as a part. */
  readonly parts?: 'top-level'
}

const refSchema = v.strictObject({ name: v.string(), parts: v.optional(v.literal('top-level')) })

/** A ref of either backend. @throws BackendError when it is none. */
export function refOf(ref: unknown): GcpRef {
  const result = v.safeParse(refSchema, ref)
  if (!result.success)
    throw new BackendError({
      kind: 'internal',
      code: 'INTERNAL',
      message: 'the ref is not one of Google Cloud',
    })
  const { name, parts } = result.output
  return { name, ...(parts !== undefined && { parts }) }
}

/**
 * The ref of a `provider: keyferry` item: a full name, with or without version, or the id of a secret or
 * parameter in the store's project.
 * @throws PlanError
 */
export function refOfItem(item: RefItem, collection: 'secrets' | 'parameters'): GcpRef {
  const { key, version, args = {} } = item
  const refuse = (message: string, remedy: string): PlanError =>
    new PlanError([{ code: 'GCP_REF', message: `object "${key.slice(0, 200)}": ${message}`, remedy }])
  const [unknown] = Object.keys(args)
  if (unknown !== undefined)
    throw refuse(`there is no argument "${unknown.slice(0, 60)}"`, 'Remove it; a Google resource takes none.')
  const base = key.includes('/') ? key : `${collection}/${key}`
  if (base.includes('/versions/')) {
    if (version === undefined) return { name: base }
    throw refuse('the version stands in the key and beside it', 'Keep one of them.')
  }
  if (version !== undefined) return { name: `${base}/versions/${version}` }
  if (collection === 'secrets') return { name: `${base}/versions/latest` }
  throw refuse('a parameter has no latest version', 'Name the version.')
}

/** A resource that can be called. */
export interface Resource extends ResourceName {
  readonly name: string
}

/** The resource of a ref. @throws BackendError `config` */
export function resourceOf(store: GcpStore, ref: GcpRef, kind: ResourceName['kind']): Resource {
  const name = ref.name.startsWith('projects/') ? ref.name : `${parent(store, ref, kind)}/${ref.name}`
  const parsed = parseResourceName(name)
  if ('fault' in parsed)
    throw new BackendError({
      kind: 'config',
      code: 'GCP_RESOURCE_NAME',
      message: `"${name.slice(0, 200)}": ${parsed.fault}`,
      remedy: parsed.remedy,
    })
  if (parsed.kind === kind) return { ...parsed, name }
  throw new BackendError({
    kind: 'config',
    code: 'GCP_RESOURCE_NAME',
    message: `"${name.slice(0, 200)}" is a ${parsed.kind}, not a ${kind}`,
    remedy: `Use the backend ${parsed.kind === 'secret' ? SECRET_MANAGER : PARAMETER_MANAGER}.`,
  })
}

function parent({ project, location }: GcpStore, ref: GcpRef, kind: ResourceName['kind']): string {
  if (project === undefined)
    throw new BackendError({
      kind: 'config',
      code: 'GCP_RESOURCE_NAME',
      message: `"${ref.name.slice(0, 200)}" names no project, and neither does the store`,
      remedy: 'Set project on the store, or write the full name beginning with projects/.',
    })
  const place = location ?? (kind === 'parameter' ? 'global' : undefined)
  return place === undefined || (kind === 'secret' && place === 'global')
    ? `projects/${project}`
    : `projects/${project}/locations/${place}`
}
