/** Owns the dialects `vault` and `openbao`: an SPC's parameters in, a plan out (vault sections 2, 3.1, 11). */
import type { Steps } from '../../formats/steps.ts'
import { formatGoJson } from '../../formats/json.ts'
import {
  PlanError,
  type Dialect,
  type FileOutput,
  type Plan,
  type PlanRequest,
  type Problem,
} from '../adapter.ts'
import {
  ENCODINGS,
  parseObjects,
  selectOf,
  versionOf,
  type PlacedObject,
  type VaultObject,
} from './objects.ts'
import { issuesForOnePod, refKey, RequestError, requestMethod, requestPath } from './request.ts'
import { goBoolean } from './settings.ts'
import type { Flavour, VaultRef, VaultStore } from './store.ts'

/** Suffix of a prefixed parameter → field of the store. */
const STORE_PARAMETERS = [
  ['Address', 'address'],
  ['Namespace', 'namespace'],
  ['CACertPath', 'caFile'],
  ['CADirectory', 'caDirectory'],
  ['TLSClientCertPath', 'clientCertFile'],
  ['TLSClientKeyPath', 'clientKeyFile'],
  ['TLSServerName', 'serverName'],
] as const

/** Those that need more than their text. `RoleName` is OpenBao's alone. */
const OTHER_SUFFIXES = ['AuthMountPath', 'KubernetesMountPath', 'SkipTLSVerify', 'RoleName'] as const
type Suffix = (typeof STORE_PARAMETERS)[number][0] | (typeof OTHER_SUFFIXES)[number]

/** What the two products do differently in an SPC. */
interface FlavourFacts {
  readonly flavour: Flavour
  /** Prefixes of parameter names; the first that is present counts, even when it is empty. */
  readonly prefixes: readonly string[]
  readonly runtimeName: string
}

function dialect(facts: FlavourFacts): Dialect {
  return {
    name: facts.flavour,
    needs: { audiences: [facts.flavour] },
    parameters: parametersOf(facts),
    runtimeName: facts.runtimeName,
    plan: (request) => planSteps(facts, request),
  }
}

export const vaultDialect = dialect({
  flavour: 'vault',
  prefixes: ['vault'],
  runtimeName: 'vault-csi-provider',
})
export const openbaoDialect = dialect({
  flavour: 'openbao',
  prefixes: ['bao', 'openbao', 'vault'],
  runtimeName: 'openbao-csi-provider',
})

function* planSteps(facts: FlavourFacts, request: PlanRequest): Steps<Plan> {
  const problems: Problem[] = []
  const store = storeOf(facts, request.parameters, problems)
  const outputs: FileOutput[] = []
  const text = request.parameters.get('objects') ?? ''
  const parsed = yield* parseObjects(text)
  problems.push(...parsed.problems)
  if (parsed.problems.length === 0 && parsed.objects.length === 0) problems.push(noObjects)
  problems.push(...duplicates(parsed.objects))
  const warnings: string[] = []
  const sharing = createSharing(request.pod.uid, warnings)
  for (const [index, placed] of parsed.objects.entries()) {
    yield
    const faults = objectFaults(placed, index)
    problems.push(...faults)
    if (faults.length === 0)
      outputs.push(outputOf(placed.object, store, sharing(placed.object), request.defaultMode))
  }
  if (problems.length > 0) throw new PlanError(problems)
  return { outputs, ...(warnings.length > 0 && { warnings }) }
}

const noObjects: Problem = {
  code: 'VAULT_NO_OBJECTS',
  message: 'no secrets configured - the provider will not read any secret material',
  remedy: 'List at least one object under objects',
  parameter: 'objects',
}

// ---------------------------------------------------------------------------------------------
// Store parameters
// ---------------------------------------------------------------------------------------------

/** Every name that means something in an SPC of the flavour. */
function parametersOf({ flavour, prefixes }: FlavourFacts): readonly string[] {
  const suffixes = [...STORE_PARAMETERS.map(([suffix]) => suffix), ...OTHER_SUFFIXES].filter(
    (suffix) => flavour === 'openbao' || suffix !== 'RoleName',
  )
  const prefixed = prefixes.flatMap((prefix) => suffixes.map((suffix) => prefix + suffix))
  return ['objects', 'roleName', 'audience', ...prefixed]
}

/** A parameter under the first of its names that is present. */
type Lookup = (suffix: Suffix) => { readonly name: string; readonly text: string | undefined }

function storeOf(
  facts: FlavourFacts,
  parameters: ReadonlyMap<string, string>,
  problems: Problem[],
): VaultStore {
  const find: Lookup = (suffix) => {
    const names = facts.prefixes.map((prefix) => prefix + suffix)
    const name = names.find((one) => parameters.has(one)) ?? `${facts.flavour}${suffix}`
    return { name, text: parameters.get(name) }
  }
  const store: { -readonly [K in keyof VaultStore]: VaultStore[K] } = { flavour: facts.flavour }
  for (const [suffix, field] of STORE_PARAMETERS) {
    const { text } = find(suffix)
    if (text) store[field] = text
  }
  const role = roleOf(facts, find, parameters)
  if (role) store.role = role
  else problems.push(noRole)
  const authMount = authMountOf(facts, find, problems)
  if (authMount) store.authMount = authMount
  const audience = parameters.get('audience')
  if (audience) store.audience = audience
  if (skipVerify(find, problems)) store.skipVerify = true
  if ((store.clientCertFile === undefined) !== (store.clientKeyFile === undefined))
    problems.push(halfPair(find))
  return store
}

const noRole: Problem = {
  code: 'VAULT_NO_ROLE',
  message: "missing 'roleName' in SecretProviderClass definition",
  remedy: "Set roleName to the role of the auth mount that the pod's service account is bound to",
  parameter: 'roleName',
}

/** HashiCorp knows `roleName` only; OpenBao also its prefixed names, which come first. */
function roleOf(
  facts: FlavourFacts,
  find: Lookup,
  parameters: ReadonlyMap<string, string>,
): string | undefined {
  const prefixed = facts.flavour === 'openbao' ? find('RoleName').text : undefined
  return prefixed ?? parameters.get('roleName')
}

/** Both names present, even equal or empty, is an error; present but empty means the default mount. */
function authMountOf(facts: FlavourFacts, find: Lookup, problems: Problem[]): string | undefined {
  const older = find('KubernetesMountPath')
  const newer = find('AuthMountPath')
  if (older.text !== undefined && newer.text !== undefined) {
    const { flavour } = facts
    problems.push({
      code: 'VAULT_AUTH_MOUNT_TWICE',
      message: `cannot set both ${flavour}KubernetesMountPath and ${flavour}AuthMountPath`,
      remedy: `Keep ${newer.name}`,
      parameter: older.name,
    })
  }
  return newer.text ?? older.text
}

function skipVerify(find: Lookup, problems: Problem[]): boolean {
  const { name, text } = find('SkipTLSVerify')
  if (text === undefined) return false
  const value = goBoolean(text)
  if (value === undefined) {
    problems.push({
      code: 'VAULT_NOT_BOOLEAN',
      message: `${name} "${text.slice(0, 40)}" is not a boolean`,
      remedy: 'Write true or false',
      parameter: name,
    })
  }
  return value ?? false
}

function halfPair(find: Lookup): Problem {
  const cert = find('TLSClientCertPath')
  const key = find('TLSClientKeyPath')
  return {
    code: 'VAULT_CLIENT_CERT_PAIR',
    message: 'both client cert and client key must be provided',
    remedy: `Set ${cert.name} and ${key.name}, or neither`,
    parameter: cert.text ? cert.name : key.name,
  }
}

// ---------------------------------------------------------------------------------------------
// Objects
// ---------------------------------------------------------------------------------------------

/** Go lists a name once for each repetition. */
function duplicates(objects: readonly PlacedObject[]): readonly Problem[] {
  const seen = new Set<string>()
  const repeated = objects
    .map(({ object }) => object.objectName)
    .filter((name) => seen.size === seen.add(name).size)
  if (repeated.length === 0) return []
  return [
    {
      code: 'VAULT_DUPLICATE_NAMES',
      message:
        'each `objectName` within a SecretProviderClass must be unique, but the following keys were duplicated: ' +
        repeated.join(', '),
      remedy: 'Give each object a name of its own',
      parameter: 'objects',
    },
  ]
}

function objectFaults({ object, line, column }: PlacedObject, index: number): readonly Problem[] {
  const faults: [string, string, string][] = []
  if (object.objectName === '')
    faults.push(['VAULT_NO_OBJECT_NAME', 'objectName is empty', 'It is the name of the file'])
  if (object.filePermission > 0o777) {
    const mode = object.filePermission.toString(8)
    faults.push([
      'VAULT_FILE_MODE',
      `filePermission is 0${mode}, more than 0777`,
      'Write an octal mode such as 0640',
    ])
  }
  if (object.secretKey !== '' && !ENCODINGS.has(object.encoding.toLowerCase())) {
    faults.push([
      'VAULT_ENCODING',
      'invalid encoding type. Should be utf-8, base64, or hex',
      'Write one of the three, or none',
    ])
  }
  for (const check of [() => requestPath(object.secretPath), () => requestMethod(object.method)]) {
    try {
      check()
    } catch (error) {
      if (!(error instanceof RequestError)) throw error
      faults.push(['VAULT_REQUEST', error.message, "Check the object's secretPath and method"])
    }
  }
  return faults.map(([code, message, remedy]) => {
    return {
      code,
      message: `objects[${index}] "${object.objectName}": ${message}`,
      remedy,
      parameter: 'objects',
      line,
      column,
    }
  })
}

function outputOf(object: VaultObject, store: VaultStore, ref: VaultRef, defaultMode: number): FileOutput {
  const select = selectOf(object)
  return {
    kind: 'file',
    path: object.objectName,
    object: object.objectName,
    mode: object.filePermission === 0 ? defaultMode : object.filePermission,
    source: { backend: 'vault', store, identity: 'pod', ref },
    version: versionOf(object),
    ...(select && { select }),
  }
}

// ---------------------------------------------------------------------------------------------
// Which objects share an answer (section 3.1)
// ---------------------------------------------------------------------------------------------

/** Refs for one mount's objects, in order. */
type Sharing = (object: VaultObject) => VaultRef

function createSharing(podUid: string, warnings: string[]): Sharing {
  /** Path and method → the first object's ref, and the refs with other arguments. */
  const groups = new Map<
    string,
    { readonly first: VaultRef; readonly firstName: string; readonly keys: Set<string> }
  >()
  /** Go's key → the ref that Go would have asked for. */
  const legacy = new Map<string, VaultRef>()
  return (object) => {
    const own = requestOf(object, podUid)
    const group = groups.get(`${own.method} ${own.path}`)
    if (!group)
      groups.set(`${own.method} ${own.path}`, {
        first: own,
        firstName: object.objectName,
        keys: new Set([refKey(own)]),
      })
    const borrows = group !== undefined && object.secretArgs === undefined
    const ref = borrows ? group.first : own
    if (group && !borrows && !group.keys.has(refKey(own))) {
      group.keys.add(refKey(own))
      warnings.push(
        `objects "${group.firstName}" and "${object.objectName}" have one secretPath and different secretArgs: ` +
          'each gets its own response, where the original provider gave both the first',
      )
    }
    const goKey = JSON.stringify([object.secretPath, object.method])
    const shared = legacy.get(goKey) ?? own
    legacy.set(goKey, shared)
    return refKey(shared) === refKey(ref) ? ref : { ...ref, legacy: shared }
  }
}

function requestOf(object: VaultObject, podUid: string): VaultRef {
  const path = requestPath(object.secretPath)
  const method = requestMethod(object.method)
  const body = object.secretArgs === undefined ? undefined : formatGoJson(object.secretArgs)
  const ref: VaultRef = { path, method, shape: 'envelope', ...(body !== undefined && { body }) }
  return issuesForOnePod(ref) ? { ...ref, pod: podUid } : ref
}
