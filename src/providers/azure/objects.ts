/** Owns the `objects` text of an Azure SPC: its YAML in YAML, its fields and their checks (azure sections 4 and 5). */
import type { Steps } from '../../formats/steps.ts'
import {
  decodeGoYaml,
  decodeGoYamlSteps,
  goBool,
  goInt,
  goPointer,
  goSlice,
  goString,
  goStruct,
  goYamlErrorText,
  located,
  type Decoded,
  type GoDecoder,
} from '../../formats/go-yaml.ts'
import { isObjectName } from './object-names.ts'
import { isVaultName, OBJECT_TYPES, type ObjectType } from './store.ts'

/** Names of the files that a certificate's secret is split into; `''` for none. */
export interface SplitNames {
  readonly certificate: string
  readonly key: string
  readonly chain: string
}

const splitNames = goStruct('Split', { certificate: goString, key: goString, chain: goString })

/** `true` for the vendor's three files, or a mapping of names. */
const split: GoDecoder<SplitNames | boolean> = {
  type: 'Split',
  zero: () => false,
  decode: (node, decoding) =>
    node.kind === 'map' ? splitNames.decode(node, decoding) : goBool.decode(node, decoding),
}

const jmesEntry = goStruct('JMESPathEntry', {
  path: goString,
  objectAlias: goString,
  filePermission: goString,
})

const vaultObject = goStruct('KeyVaultObject', {
  objectName: goString,
  objectAlias: goString,
  objectType: goString,
  objectVersion: goString,
  objectVersionHistory: goInt('int32'),
  objectFormat: goString,
  objectEncoding: goString,
  filePermission: goString,
  /** Ours. */
  keyvaultName: goString,
  optional: goBool,
  split: goPointer(split),
  jmesPath: goSlice(jmesEntry),
})
type RawObject = Decoded<typeof vaultObject>
export type JmesEntry = Decoded<typeof jmesEntry>

/** An element of the list: YAML text as the vendor wants it, or the mapping itself. */
const element: GoDecoder<string | RawObject> = {
  type: 'string',
  zero: () => '',
  decode: (node, decoding) =>
    node.kind === 'map' ? vaultObject.decode(node, decoding) : goString.decode(node, decoding),
}
const elements = goSlice(located(element))
const withArray = goStruct('types.StringArray', { array: elements })

/** A mapping with the key `array`, or the list itself. */
const document: GoDecoder<Decoded<typeof elements>> = {
  type: 'types.StringArray',
  zero: () => [],
  decode: (node, decoding) =>
    node.kind === 'list' ? elements.decode(node, decoding) : withArray.decode(node, decoding).array,
}

/** An object that passed every check. */
export interface CheckedObject {
  readonly type: ObjectType
  readonly name: string
  /** Path in the volume. */
  readonly path: string
  /** Absent: the current version. */
  readonly version?: string
  /** How many versions to mount, when more than one. */
  readonly history?: number
  readonly pfx: boolean
  readonly encoding?: 'base64' | 'hex'
  readonly mode: number
  /** Vault of this object instead of the class's. */
  readonly vault?: string
  readonly optional: boolean
  readonly split: SplitNames | boolean
  readonly jmesPath: readonly JmesEntry[]
}

export interface ObjectOptions {
  readonly defaultMode: number
  /** `objectVersionHistory` N gives N files; the vendor's gives one more. */
  readonly exactHistory: boolean
  /** A bad `filePermission` is an error; the vendor's gives mode 0. */
  readonly strictPermission: boolean
}

/** Takes one fault of the class; `line` is the one of `objects` in which it is, from 1. */
export type Report = (code: string, message: string, remedy?: string, line?: number) => void

/** What `objects` says. An object with a fault is left out; every fault is reported. */
export function* checkedObjects(
  text: string,
  options: ObjectOptions,
  report: Report,
  warn: (warning: string) => void,
): Steps<readonly CheckedObject[]> {
  if (text === '') {
    report('AZURE_NO_OBJECTS', 'objects is not set', 'List at least one object under objects.')
    return []
  }
  const { value, problems } = yield* decodeGoYamlSteps(text, 'yaml3', document)
  if (problems.length > 0) {
    report(
      'AZURE_OBJECTS_YAML',
      `failed to yaml unmarshal objects, error: ${goYamlErrorText(problems)}`,
      'Write objects as a list under array, each object a mapping or a block text.',
    )
    return []
  }
  const checked: CheckedObject[] = []
  for (const [index, item] of value.entries()) {
    yield
    if (item === undefined) continue
    const reportHere: Report = (code, message, remedy) => report(code, message, remedy, item.line)
    const raw = typeof item.value === 'string' ? innerObject(item.value, index, reportHere) : item.value
    const object = raw && checkedObject(trimmed(raw), options, reportHere, warn)
    if (object) checked.push(object)
  }
  return checked
}

/** Some hundred lines. */
const INNER_LIMITS = { maxTokens: 4000 }

function innerObject(text: string, index: number, report: Report): RawObject | undefined {
  const { value, problems } = decodeGoYaml(text, 'yaml3', vaultObject, INNER_LIMITS)
  if (problems.length === 0) return value
  report(
    'AZURE_OBJECTS_YAML',
    `unmarshal failed for keyVaultObjects at index ${index}, error: ${goYamlErrorText(problems)}`,
    'Write the object as a mapping, one field a line.',
  )
  return undefined
}

function trimmed(raw: RawObject): RawObject {
  const texts = Object.entries(raw).map(([key, value]) => [
    key,
    typeof value === 'string' ? value.trim() : value,
  ])
  return Object.fromEntries(texts) as RawObject
}

const FORMATS: ReadonlyMap<string, 'pem' | 'pfx'> = new Map([
  ['', 'pem'],
  ['pem', 'pem'],
  ['pfx', 'pfx'],
])
const ENCODINGS: ReadonlySet<string> = new Set(['', 'utf-8', 'hex', 'base64'])

function checkedObject(
  raw: RawObject,
  options: ObjectOptions,
  report: Report,
  warn: (warning: string) => void,
): CheckedObject | undefined {
  const type = OBJECT_TYPES.find((known) => known === raw.objectType)
  const path = raw.objectAlias || raw.objectName
  const where = `failed to get objectType:${short(raw.objectType)}, objectName:${short(raw.objectName)}, objectVersion:${short(raw.objectVersion)}: `
  let sound = true
  for (const [code, fault, remedy] of faultsOf(raw, type, path)) {
    sound = false
    report(code, where + fault, remedy)
  }
  const mode = modeOf(raw.filePermission, options.defaultMode)
  if (mode.fault !== undefined) {
    const text = `filePermission "${short(raw.filePermission)}" ${mode.fault}`
    if (options.strictPermission) report('AZURE_OBJECT', where + text, 'Write it in octal, e.g. 0400.')
    else
      warn(
        `object "${short(raw.objectName)}": ${text}; the file has mode ${mode.value.toString(8).padStart(4, '0')}`,
      )
  }
  if (!sound || type === undefined) return undefined
  const version = raw.objectVersion === 'latest' ? '' : raw.objectVersion
  const encoding = raw.objectEncoding.toLowerCase()
  const history = raw.objectVersionHistory
  return {
    type,
    name: raw.objectName,
    path,
    ...(version === '' ? {} : { version }),
    // The vendor tests its limit after it has taken a version: N + 1 of them.
    ...(history > 1 ? { history: options.exactHistory ? history : history + 1 } : {}),
    pfx: type === 'secret' && FORMATS.get(raw.objectFormat.toLowerCase()) === 'pfx',
    ...(encoding === 'base64' || encoding === 'hex' ? { encoding } : {}),
    mode: mode.value,
    ...(raw.keyvaultName === '' ? {} : { vault: raw.keyvaultName }),
    optional: raw.optional,
    split: raw.split ?? false,
    jmesPath: raw.jmesPath,
  }
}

type Fault = readonly [code: string, message: string, remedy?: string]

function faultsOf(raw: RawObject, type: ObjectType | undefined, path: string): readonly Fault[] {
  const faults: Fault[] = []
  const add = (message: string, remedy?: string, code = 'AZURE_OBJECT'): void =>
    void faults.push(remedy === undefined ? [code, message] : [code, message, remedy])
  if (!FORMATS.has(raw.objectFormat.toLowerCase())) {
    add(`invalid objectFormat: ${short(raw.objectFormat)}, should be PEM or PFX`)
  }
  // Exactly this text, as the vendor compares it: PFX in capitals passes and changes nothing.
  if (raw.objectFormat === 'pfx' && raw.objectType !== 'secret') {
    add('PFX format only supported for objectType: secret')
  }
  if (raw.objectEncoding !== '' && raw.objectType !== 'secret') {
    add('objectEncoding only supported for objectType: secret')
  } else if (!ENCODINGS.has(raw.objectEncoding.toLowerCase())) {
    add(`invalid objectEncoding: ${short(raw.objectEncoding)}, should be hex, base64 or utf-8`)
  }
  const pathFault = fileNameFault(path)
  if (pathFault !== undefined)
    add(pathFault, 'Set objectAlias to a relative path without "..".', 'AZURE_PATH')
  if (type === undefined) {
    add('Invalid vaultObjectTypes. Should be secret, key, or cert', 'Set objectType; case counts.')
  }
  if (raw.objectName !== '' && !isObjectName(raw.objectName)) {
    add('objectName is not a name that Key Vault allows', 'Use letters, digits and hyphens, at most 127.')
  }
  if (raw.objectName === '' && raw.objectAlias !== '') add('objectName is not set')
  if (raw.objectVersion !== '' && !isObjectName(raw.objectVersion))
    add('objectVersion is not the id of a version')
  if (raw.keyvaultName !== '' && !isVaultName(raw.keyvaultName))
    add('keyvaultName of the object is not the name of a vault')
  if (raw.split !== undefined && raw.split !== false) faults.push(...splitFaults(raw))
  if (raw.jmesPath.length > 0 && (raw.objectType !== 'secret' || raw.objectVersionHistory > 1)) {
    add('jmesPath only supported for objectType: secret without objectVersionHistory')
  }
  for (const entry of raw.jmesPath) {
    const fault = fileNameFault(entry.objectAlias)
    if (fault !== undefined)
      add(`jmesPath "${short(entry.path)}": ${fault}`, 'Give each path an objectAlias.', 'AZURE_PATH')
  }
  return faults
}

function splitFaults(raw: RawObject): readonly Fault[] {
  const only = 'split only supported for objectType: secret in PEM format without objectEncoding'
  const faults: Fault[] = []
  if (raw.objectType !== 'secret' || raw.objectFormat.toLowerCase() === 'pfx' || raw.objectEncoding !== '') {
    faults.push(['AZURE_OBJECT', only])
  }
  if (typeof raw.split !== 'object') return faults
  if (raw.objectVersionHistory > 1)
    faults.push(['AZURE_OBJECT', 'names under split cannot be had with objectVersionHistory'])
  const names = [raw.split.certificate, raw.split.key, raw.split.chain].filter((name) => name !== '')
  if (names.length === 0)
    faults.push(['AZURE_OBJECT', 'split names no file', 'Name certificate, key or chain.'])
  for (const name of names) {
    const fault = fileNameFault(name)
    if (fault !== undefined) faults.push(['AZURE_PATH', `split: ${fault}`])
  }
  return faults
}

/** The vendor's rules; the host has more. */
function fileNameFault(path: string): string | undefined {
  if (path === '') return 'file name must not be empty'
  if (path.startsWith('/')) return 'file name must be a relative path'
  return path.includes('..') ? "file name must not contain '..'" : undefined
}

/** What `strconv.ParseInt(text, 8, 32)` makes of a mode. What it refuses is mode 0. */
function modeOf(text: string, defaultMode: number): { readonly value: number; readonly fault?: string } {
  if (text === '') return { value: defaultMode }
  const number = /^[+-]?[0-7]{1,64}$/.test(text) ? Number.parseInt(text, 8) : Number.NaN
  if (!(number >= -(2 ** 31) && number < 2 ** 31)) return { value: 0, fault: 'is not an octal number' }
  // The driver uses the low nine bits.
  const value = number & 0o777
  return value === number ? { value } : { value, fault: 'is outside 0 to 0777' }
}

const short = (text: string): string => (text.length > 130 ? `${text.slice(0, 130)}…` : text)
