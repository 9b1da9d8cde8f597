/**
 * Owns the resource names of Secret Manager and Parameter Manager: one strict grammar, because project and
 * location stand in a URL that a bearer token is sent to (gcp.md section 5, threat model T11).
 */

/** A resource that can be fetched. */
export interface ResourceName {
  readonly kind: 'secret' | 'parameter'
  /** `undefined` for a global resource. */
  readonly location: string | undefined
}

const PROJECT = /^[a-z0-9][a-z0-9.:-]{0,127}$/
const LOCATION = /^[a-z][a-z0-9-]{0,29}$/
const SECRET = /^[A-Za-z0-9_-]{1,255}$/
const PARAMETER = /^[A-Za-z0-9_-]{1,63}$/
const VERSION = /^[A-Za-z0-9_-]{1,63}$/

/** Why a name cannot be used, and what would help. */
export interface NameFault {
  readonly fault: string
  readonly remedy: string
}

const FORMS =
  'Use projects/P/secrets/S/versions/V, projects/P/locations/L/secrets/S/versions/V or projects/P/locations/L/parameters/Q/versions/V.'

/** Reads a name. Whatever is not exactly one of the four forms is a fault. */
export function parseResourceName(name: string): ResourceName | NameFault {
  const segments = name.split('/')
  const [projects, project = ''] = segments
  if (projects !== 'projects') return { fault: 'unknown resource type', remedy: FORMS }
  if (!PROJECT.test(project)) return { fault: 'the project is not a project id or number', remedy: FORMS }
  const regional = segments[2] === 'locations'
  const location = regional ? (segments[3] ?? '') : undefined
  if (location !== undefined && !LOCATION.test(location))
    return { fault: 'Invalid location', remedy: 'Name a region such as europe-west3.' }
  const [collection, id = '', versions, version = '', ...rest] = segments.slice(regional ? 4 : 2)
  const kind = KINDS.get(collection ?? '')
  if (kind === undefined || versions !== 'versions' || rest.length > 0)
    return { fault: 'unknown resource type', remedy: FORMS }
  if (!(kind === 'secret' ? SECRET : PARAMETER).test(id) || !VERSION.test(version))
    return { fault: `the ${kind} or its version has a name that cannot exist`, remedy: FORMS }
  return placed(kind, location)
}

const KINDS: ReadonlyMap<string, ResourceName['kind']> = new Map([
  ['secrets', 'secret'],
  ['parameters', 'parameter'],
])

/** Parameters say `locations/global`, secrets leave the location out. */
function placed(kind: ResourceName['kind'], location: string | undefined): ResourceName | NameFault {
  if (kind === 'secret') {
    if (location !== 'global') return { kind, location }
    return {
      fault: 'there is no secret in the location "global"',
      remedy: 'Leave locations/global out: a global secret is projects/P/secrets/S/versions/V.',
    }
  }
  if (location !== undefined) return { kind, location: location === 'global' ? undefined : location }
  return {
    fault: 'a parameter needs a location',
    remedy: 'Write projects/P/locations/global/parameters/Q/versions/V.',
  }
}

/** Whether a text is the e-mail address of a service account: it becomes a segment of a URL. */
export function isServiceAccountEmail(text: string): boolean {
  return text.length <= 254 && /^[A-Za-z0-9][A-Za-z0-9._-]*@[a-z0-9][a-z0-9.-]*$/.test(text)
}

const KEY_SEGMENTS = ['projects', 'locations', 'keyRings', 'cryptoKeys'] as const

/** Whether a text is the name of a Cloud KMS key, e.g. `projects/p/locations/global/keyRings/r/cryptoKeys/k`. */
export function isKeyName(name: string): boolean {
  const segments = name.split('/')
  const [project = '', location = '', ring = '', key = ''] = [1, 3, 5, 7].map((at) => segments[at] ?? '')
  return (
    segments.length === 8 &&
    KEY_SEGMENTS.every((word, index) => segments[index * 2] === word) &&
    PROJECT.test(project) &&
    LOCATION.test(location) &&
    PARAMETER.test(ring) &&
    PARAMETER.test(key)
  )
}
