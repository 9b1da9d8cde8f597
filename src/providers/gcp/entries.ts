/** Owns the parameter `secrets` of a Google SPC: its YAML, and the rules for each entry (gcp.md sections 3 to 5). */
import type { Steps } from '../../formats/steps.ts'
import {
  decodeGoYamlSteps,
  goBool,
  goInt,
  goPointer,
  goSlice,
  goString,
  goStruct,
  goYamlErrorText,
  located,
} from '../../formats/go-yaml.ts'
import type { StructOf } from '../../formats/go-yaml.ts'
import type { Problem } from '../adapter.ts'
import { parseResourceName } from './names.ts'
import type { ResourceName } from './names.ts'

const FIELDS = {
  resourceName: goString,
  path: goString,
  fileName: goString,
  mode: goPointer(goInt('int32')),
  extractJSONKey: goString,
  extractYAMLKey: goString,
  // Ours; Google's provider ignores fields that it does not know.
  decodeBase64: goBool,
  stringify: goBool,
  extractAll: goBool,
  optional: goBool,
  jmesPath: goSlice(goStruct('JmesPath', { path: goString, objectAlias: goString })),
}

const document = goSlice(goPointer(located(goStruct('Secret', FIELDS))))

export type EntryFields = StructOf<typeof FIELDS>

/** One entry whose rules hold. */
export interface Entry {
  readonly fields: EntryFields
  readonly resource: ResourceName
  /** `path`, else `fileName`; `''` only with `extractAll` or `jmesPath`. */
  readonly file: string
  /** 0..511; `undefined` for the default. */
  readonly mode: number | undefined
  /** For messages, e.g. `secrets[2]`. */
  readonly place: string
  readonly line: number
}

/** What the entries of one SPC add up to. */
export interface Entries {
  readonly entries: readonly Entry[]
  readonly warnings: readonly string[]
}

/** Reads `secrets`; every fault goes to `problems`. */
export function* readEntries(text: string | undefined, problems: Problem[]): Steps<Entries> {
  const none = { entries: [], warnings: [] }
  if (text === undefined) {
    problems.push({
      code: 'GCP_SECRETS_MISSING',
      message: "missing required 'secrets' attribute",
      remedy: 'List the secrets under spec.parameters.secrets.',
    })
    return none
  }
  const { value: items, problems: faults } = yield* decodeGoYamlSteps(text, 'yaml3', document)
  if (faults.length > 0) {
    const [first] = faults
    problems.push({
      code: 'GCP_SECRETS_YAML',
      message: `failed to unmarshal secrets attribute: ${goYamlErrorText(faults.slice(0, 5))}`,
      remedy:
        'secrets is the text of a YAML list: secrets: | and below it entries beginning with "- resourceName:".',
      parameter: 'secrets',
      ...(first?.line !== undefined && { line: first.line }),
    })
    return none
  }
  if (items.length === 0) {
    problems.push({
      code: 'GCP_SECRETS_EMPTY',
      message: 'secrets list is empty',
      remedy: 'List at least one entry.',
    })
    return none
  }
  const warnings: string[] = []
  const entries: Entry[] = []
  for (const [index, item] of items.entries()) {
    yield
    const place = `secrets[${index}]`
    if (item !== undefined)
      entries.push(...checkedEntry(item.value, { place, line: item.line }, problems, warnings))
    else
      problems.push({
        code: 'GCP_ENTRY_EMPTY',
        message: `${place} is empty`,
        remedy: 'Remove the lone "-", or write the entry behind it.',
      })
  }
  return { entries, warnings }
}

interface Where {
  readonly place: string
  readonly line: number
}

function checkedEntry(fields: EntryFields, where: Where, problems: Problem[], warnings: string[]): Entry[] {
  const before = problems.length
  const { place, line } = where
  const report = (code: string, message: string, remedy: string): void => {
    problems.push({ code, message: `${place} ${message}`, remedy, parameter: 'secrets', line })
  }
  const resource = parseResourceName(fields.resourceName)
  if ('fault' in resource)
    report(
      'GCP_RESOURCE_NAME',
      `resourceName "${clipped(fields.resourceName)}": ${resource.fault}`,
      resource.remedy,
    )
  if (fields.extractJSONKey !== '' && fields.extractYAMLKey !== '')
    report(
      'GCP_TWO_KEYS',
      'has both extractJSONKey and extractYAMLKey',
      'Keep the one that fits the format of the payload.',
    )
  if (fields.extractAll && (fields.extractJSONKey + fields.extractYAMLKey !== '' || fields.decodeBase64))
    report(
      'GCP_EXTRACT_ALL',
      'has extractAll together with a key or decodeBase64',
      'Use extractAll alone, or list the keys one by one.',
    )
  const file = fields.path || fields.fileName
  const fileWanted = !(file === '' && (fields.extractAll || fields.jmesPath.length > 0))
  const paths = [...(fileWanted ? [file] : []), ...fields.jmesPath.map(({ objectAlias }) => objectAlias)]
  for (const path of paths) {
    if (isCleanPath(path)) continue
    const what = path === '' ? 'has no path' : `has the invalid path "${clipped(path)}"`
    report(
      'GCP_INVALID_PATH',
      `${what} (invalid path)`,
      'Name the file with a relative path without "..", "." or empty segments, each at most 255 bytes.',
    )
  }
  const mode = checkedMode(fields.mode, report, (text) => warnings.push(`${place} ${text}`))
  if ('fault' in resource || problems.length > before) return []
  return [{ fields, resource, file, mode, place, line }]
}

const clipped = (text: string): string => text.slice(0, 200)

/** The driver's rules for a path (driver.md section 3), so that a fault is found before any network use. */
function isCleanPath(path: string): boolean {
  const segments = path.split('/')
  return (
    Buffer.byteLength(path) <= 4096 &&
    path.isWellFormed() &&
    !/\p{Cc}/u.test(path) &&
    !path.startsWith('..') &&
    segments.every((part) => part !== '' && part !== '.' && part !== '..' && Buffer.byteLength(part) <= 255)
  )
}

/** Decimal numbers that are far more likely octal modes without their leading zero. */
const LIKELY_OCTAL: ReadonlySet<number> = new Set([400, 440, 444, 500])

/** From here on bits are set that no permission has: sticky, setuid, setgid. */
const MODE_END = 2 ** 20

function checkedMode(
  mode: number | undefined,
  report: (code: string, message: string, remedy: string) => void,
  warn: (text: string) => void,
): number | undefined {
  if (mode === undefined) return undefined
  if (mode < 0 || mode >= MODE_END) {
    report('GCP_MODE', `mode ${mode} is no file mode`, 'Use an octal mode such as 0400.')
    return undefined
  }
  // The driver looks at the low nine bits only.
  const effective = mode & 0o777
  if (mode > 0o777 || LIKELY_OCTAL.has(mode))
    warn(`mode ${mode} is decimal and means 0${effective.toString(8)}; write octal modes with a leading zero`)
  return effective
}
