/** Owns the `objects` document of an AWS SPC: its fields and its rules 11 to 30 (aws.md sections 3 and 4). */
import type { Steps } from '../../formats/steps.ts'
import type { Decoded } from '../../formats/go-yaml.ts'
import { decodeGoYamlSteps, goPointer, goSlice, goString, goStruct, located } from '../../formats/go-yaml.ts'
import type { Problem } from '../adapter.ts'
import type { PathTranslation } from './names.ts'
import { arnOf, climbs, filePath, splitSelector } from './names.ts'

const field = { objectName: goString, objectVersion: goString, objectVersionLabel: goString }

const descriptor = goStruct('SecretDescriptor', {
  ...field,
  objectType: goString,
  objectAlias: goString,
  filePermission: goString,
  /** Ours: `base64` decodes the value. */
  objectEncoding: goString,
  jmesPath: goSlice(
    goStruct('JMESPathEntry', {
      path: goString,
      objectAlias: goString,
      filePermission: goString,
      objectEncoding: goString,
    }),
  ),
  failoverObject: goStruct('FailoverObjectEntry', field),
})
const descriptors = goSlice(goPointer(located(descriptor)))

export type Descriptor = Decoded<typeof descriptor>
export type JmesEntry = Descriptor['jmesPath'][number]

/** Which of the two services holds an object. */
export type ObjectType = 'secretsmanager' | 'ssmparameter'

/** A descriptor that passed every rule, with what the rules found out on the way. */
export interface CheckedObject {
  readonly descriptor: Descriptor
  readonly type: ObjectType
  readonly path: string
  readonly mode: number
  readonly line: number
}

/** What the rest of the SPC says. */
export interface ObjectContext {
  /** Undefined while it is not known: the backend checks again then. */
  readonly region: string | undefined
  readonly failoverRegion: string | undefined
  readonly translation: PathTranslation
  readonly defaultMode: number
}

const SERVICES: ReadonlyMap<string, ObjectType> = new Map<string, ObjectType>([
  ['secretsmanager', 'secretsmanager'],
  ['ssm', 'ssmparameter'],
  ['ssmparameter', 'ssmparameter'],
])
const TYPES: ReadonlySet<string> = new Set(['secretsmanager', 'ssmparameter'])

/** Collects the problems of one place of the SPC; gives undefined, so that a rule can end with it. */
export type Report = (code: string, message: string, remedy?: string) => undefined

/**
 * Decodes and checks `objects`. An object with a problem is left out of the result; every problem of
 * every object is reported.
 */
export function* checkedObjects(
  text: string,
  context: ObjectContext,
  problems: Problem[],
): Steps<readonly CheckedObject[]> {
  const { value, problems: faults } = yield* decodeGoYamlSteps(text, 'sigs', descriptors)
  for (const { message, line, column } of faults)
    problems.push({
      code: 'AWS_BAD_OBJECTS',
      message: `objects cannot be read: ${message}`,
      remedy: 'Write objects as a YAML list of mappings.',
      parameter: 'objects',
      ...(line === undefined ? {} : { line }),
      ...(column === undefined ? {} : { column }),
    })
  if (faults.length > 0) return []
  if (value.length === 0) {
    problems.push({
      code: 'AWS_NO_OBJECTS',
      message: 'objects lists nothing to mount',
      remedy: 'List at least one object.',
      parameter: 'objects',
    })
  }
  const checked: CheckedObject[] = []
  const uniqueness = uniquenessRules()
  for (const [index, entry] of value.entries()) {
    yield
    const before = problems.length
    const name = entry?.value.objectName ?? ''
    const report: Report = (code, message, remedy) => {
      problems.push({
        code,
        message: `objects[${index}]${name === '' ? '' : ` "${name.slice(0, 200)}"`}: ${message}`,
        ...(remedy === undefined ? {} : { remedy }),
        parameter: 'objects',
        ...(entry === undefined ? {} : { line: entry.line, column: entry.column }),
      })
    }
    if (entry === undefined) {
      report('AWS_BAD_OBJECTS', 'the entry is empty', 'Remove the lone hyphen.')
      continue
    }
    const result = checkedDescriptor(entry.value, context, report)
    uniqueness(entry.value, report)
    if (result !== undefined && problems.length === before) checked.push({ ...result, line: entry.line })
  }
  return checked
}

function checkedDescriptor(
  object: Descriptor,
  context: ObjectContext,
  report: Report,
): Omit<CheckedObject, 'line'> | undefined {
  const type = typeOf(object.objectName, object.objectType, context.region, report)
  const mode = modeOf(object.filePermission, context.defaultMode, report)
  if (type === undefined) return undefined
  if (type === 'ssmparameter') checkSelectors(object, report)
  const path = filePath(object.objectAlias || object.objectName, context.translation)
  checkPath(path, report)
  for (const entry of object.jmesPath) checkJmesEntry(entry, context, report)
  checkFailover(object, type, context, report)
  for (const { objectEncoding } of [object, ...object.jmesPath])
    if (objectEncoding !== '' && objectEncoding !== 'base64')
      report(
        'AWS_BAD_ENCODING',
        `objectEncoding "${objectEncoding}" is unknown`,
        'Use base64, or leave it out.',
      )
  return { descriptor: object, type, path, mode: mode ?? context.defaultMode }
}

/** Rules 12 to 18: what a name and a type say together. */
function typeOf(
  name: string,
  written: string,
  region: string | undefined,
  report: Report,
): ObjectType | undefined {
  if (name === '') return report('AWS_NO_NAME', 'objectName must be specified')
  const arn = arnOf(name)
  if (arn === 'malformed') return report('AWS_BAD_ARN', 'an ARN has at least six fields separated by colons')
  if (arn !== undefined && region !== undefined && arn.region !== region)
    return report(
      'AWS_ARN_REGION',
      `the ARN is of region "${arn.region}", but region ${region} is asked`,
      'Use the ARN of that region, or name the object without ARN.',
    )
  const service = arn === undefined ? undefined : SERVICES.get(arn.service)
  if (written === '') {
    if (arn === undefined)
      return report(
        'AWS_NO_TYPE',
        'objectType is missing',
        'Set objectType to secretsmanager or ssmparameter.',
      )
    if (service === undefined)
      return report('AWS_ARN_SERVICE', `the ARN is of service "${arn.service}", not secretsmanager or ssm`)
    return service
  }
  if (!TYPES.has(written))
    return report(
      'AWS_BAD_TYPE',
      `objectType "${written}" is unknown`,
      'Use secretsmanager or ssmparameter, in lower case.',
    )
  const type = written as ObjectType
  if (arn !== undefined && service !== type)
    return report('AWS_TYPE_MISMATCH', `objectType ${type} does not match the ARN's service "${arn.service}"`)
  return type
}

/** Rule 19, with a selector inside the name as one more way to say it. */
function checkSelectors(
  object: Pick<Descriptor, 'objectName' | 'objectVersion' | 'objectVersionLabel'>,
  report: Report,
): void {
  const { selector } = splitSelector(object.objectName)
  const ways = [object.objectVersion, object.objectVersionLabel, selector ?? ''].filter((way) => way !== '')
  if (ways.length > 1)
    report(
      'AWS_VERSION_AND_LABEL',
      'a parameter takes either objectVersion or objectVersionLabel',
      'Leave one of them out.',
    )
}

/** Rule 21. @returns undefined when it is broken. */
function modeOf(text: string, fallback: number, report: Report): number | undefined {
  if (text === '') return fallback
  if (!/^[0-7]{4}$/.test(text))
    return report(
      'AWS_BAD_MODE',
      `filePermission "${text.slice(0, 40)}" is not four octal digits`,
      'Write it quoted, e.g. "0440": YAML reads an unquoted 0440 as the number 288.',
    )
  // What the driver would take from the other bits: nothing, or setuid (driver.md section 3).
  return Number.parseInt(text, 8) & 0o777
}

/** Rule 20, and what the driver would refuse after everything had been fetched. */
function checkPath(path: string, report: Report): void {
  const long = path.split('/').some((segment) => Buffer.byteLength(segment) > 255)
  if (climbs(path)) report('AWS_PATH', `file path "${path.slice(0, 200)}" must not contain ../`)
  else if (path === '' || path === '.' || path.startsWith('..'))
    report(
      'AWS_PATH',
      `"${path.slice(0, 200)}" cannot be a file name in a volume (empty, ".", or beginning with "..")`,
      'Give the object another objectAlias.',
    )
  else if (long || Buffer.byteLength(path) > 4096)
    report('AWS_PATH', 'the file name is longer than 255 bytes', 'Give the object a shorter objectAlias.')
}

/** Rule 22. A `*` takes every top-level key and names the files itself. */
function checkJmesEntry(entry: JmesEntry, context: ObjectContext, report: Report): void {
  const all = entry.path === '*'
  if (entry.path === '' || (entry.objectAlias === '' && !all))
    report('AWS_BAD_JMES_ENTRY', 'path and objectAlias must be specified for every jmesPath entry')
  else if (entry.objectAlias !== '') checkPath(filePath(entry.objectAlias, context.translation), report)
  modeOf(entry.filePermission, 0, report)
}

/** Rules 23 to 27. */
function checkFailover(object: Descriptor, type: ObjectType, context: ObjectContext, report: Report): void {
  const failover = object.failoverObject
  if (failover.objectName === '') return
  if (object.objectAlias === '')
    report('AWS_FAILOVER_ALIAS', 'objectAlias must be specified for an object with a failoverObject')
  if (context.failoverRegion === undefined)
    report('AWS_FAILOVER_REGION', 'failoverObject is allowed only with failoverRegion', 'Set failoverRegion.')
  const reportFailover: Report = (code, message, remedy) => report(code, `failoverObject: ${message}`, remedy)
  const failoverType = typeOf(failover.objectName, object.objectType, context.failoverRegion, reportFailover)
  if (failoverType === undefined) return
  if (failoverType !== type)
    reportFailover('AWS_TYPE_MISMATCH', `its ARN is of ${failoverType}, the object of ${type}`)
  if (type === 'ssmparameter') checkSelectors(failover, reportFailover)
  if (failover.objectVersion !== object.objectVersion)
    reportFailover('AWS_FAILOVER_VERSION', 'objectVersion must be the same in both regions')
}

/** Rules 28 to 30, which look at the objects before. */
function uniquenessRules(): (object: Descriptor, report: Report) => void {
  const latest = new Map<string, Descriptor>()
  const aliases = new Set<string>()
  return (object, report) => {
    const { objectName, objectAlias } = object
    const earlier = latest.get(objectName)
    latest.set(objectName, object)
    const same =
      earlier !== undefined &&
      earlier.objectAlias === objectAlias &&
      earlier.objectVersionLabel === object.objectVersionLabel
    const use = (alias: string): void => {
      if (alias === '') return
      if (aliases.has(alias))
        report('AWS_DUPLICATE_ALIAS', `objectAlias "${alias.slice(0, 200)}" is already in use`)
      aliases.add(alias)
    }
    if (same && objectName !== '')
      report('AWS_DUPLICATE', 'the object is listed twice', 'Give the second one an objectAlias.')
    else use(objectAlias)
    for (const entry of object.jmesPath) if (entry.path !== '*') use(entry.objectAlias)
  }
}
