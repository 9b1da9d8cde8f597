/**
 * Owns what a YAML scalar means to Go: `yaml3` is gopkg.in/yaml.v3, `sigs` is sigs.k8s.io/yaml, which
 * resolves by YAML 1.1 (dependencies.md section 9).
 */
import { parseGoInteger } from './go-numbers.ts'
import { YamlError } from './yaml-nodes.ts'
import type { YamlScalar } from './yaml-nodes.ts'

/** Which Go library a vendor decodes with. */
export type GoYamlFlavour = 'yaml3' | 'sigs'

/** A scalar's meaning. `text` of a `str` is content; of a `time` RFC 3339 as Go's JSON writes it. */
export type ResolvedScalar =
  | { readonly type: 'null' }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'int'; readonly value: bigint }
  | { readonly type: 'float'; readonly value: number }
  | { readonly type: 'str'; readonly text: string }
  | { readonly type: 'time'; readonly text: string }
  /** Decoded bytes: base64 may hold anything. */
  | { readonly type: 'binary'; readonly bytes: Buffer }
  /** A plain `<<`: merges when it is a key, is text when it is a value. */
  | { readonly type: 'merge' }

const NULL: ResolvedScalar = { type: 'null' }
const TRUE: ResolvedScalar = { type: 'bool', value: true }
const FALSE: ResolvedScalar = { type: 'bool', value: false }
const float = (value: number): ResolvedScalar => ({ type: 'float', value })

const cased = (...words: readonly string[]) =>
  words.flatMap((word) => [word, word.charAt(0).toUpperCase() + word.slice(1), word.toUpperCase()])

function table(trues: readonly string[], falses: readonly string[]): ReadonlyMap<string, ResolvedScalar> {
  return new Map<string, ResolvedScalar>([
    ...trues.map((word) => [word, TRUE] as const),
    ...falses.map((word) => [word, FALSE] as const),
    ...['', '~', ...cased('null')].map((word) => [word, NULL] as const),
    ...['.nan', '.NaN', '.NAN'].map((word) => [word, float(NaN)] as const),
    ...['.inf', '.Inf', '.INF', '+.inf', '+.Inf', '+.INF'].map((word) => [word, float(Infinity)] as const),
    ...['-.inf', '-.Inf', '-.INF'].map((word) => [word, float(-Infinity)] as const),
    ['<<', { type: 'merge' }],
  ])
}

const WORDS: Readonly<Record<GoYamlFlavour, ReadonlyMap<string, ResolvedScalar>>> = {
  yaml3: table(cased('true'), cased('false')),
  sigs: table(['y', 'Y', ...cased('yes', 'true', 'on')], ['n', 'N', ...cased('no', 'false', 'off')]),
}

/** Words that only yaml.v3 takes, and only where a bool is wanted. */
export const YAML11_TRUE: ReadonlySet<string> = new Set(['y', 'Y', ...cased('yes', 'on')])
export const YAML11_FALSE: ReadonlySet<string> = new Set(['n', 'N', ...cased('no', 'off')])

const STANDARD = 'tag:yaml.org,2002:'
/** Tags under which a text is still resolved; every other tag makes it a string. */
const RESOLVABLE: ReadonlySet<string> = new Set(
  ['', 'str', 'bool', 'int', 'float', 'null', 'timestamp', 'binary', 'merge'].map((t) =>
    t ? STANDARD + t : '',
  ),
)
const SHORT: Readonly<Record<ResolvedScalar['type'], string>> = {
  null: '!!null',
  bool: '!!bool',
  int: '!!int',
  float: '!!float',
  str: '!!str',
  time: '!!timestamp',
  binary: '!!binary',
  merge: '!!merge',
}

/** The tag that Go prints in its errors, e.g. `!!int` or a foreign `!foo`. */
export function shortTag(node: YamlScalar, flavour: GoYamlFlavour): string {
  if (node.tag !== '!' && !RESOLVABLE.has(node.tag)) return node.tag.replace(STANDARD, '!!').slice(0, 64)
  return SHORT[resolveScalar(node, flavour).type]
}

/**
 * What `node` means under `flavour`, before any target type is looked at.
 * @throws YamlError when an explicit tag does not fit the text, e.g. `!!int abc`.
 */
export function resolveScalar(node: YamlScalar, flavour: GoYamlFlavour): ResolvedScalar {
  const { text } = node
  // To yaml.v3 the non-specific tag says nothing; in YAML, and to sigs, it says "not plain".
  const tag = node.tag === '!' && node.plain && flavour === 'yaml3' ? '' : node.tag
  if (tag === '!' || (tag === '' && !node.plain)) return { type: 'str', text }
  if (tag === `${STANDARD}str` || !RESOLVABLE.has(tag)) return { type: 'str', text }
  if (tag === `${STANDARD}binary`) return { type: 'binary', bytes: decodeBinary(node) }
  const resolved = WORDS[flavour].get(text) ?? number(text, tag, flavour) ?? { type: 'str', text }
  if (tag === '') return resolved
  const wanted = tag.slice(STANDARD.length)
  if (wanted === SHORT[resolved.type].slice(2)) return resolved
  if (wanted === 'float' && resolved.type === 'int') return float(Number(resolved.value))
  throw new YamlError(`cannot decode ${SHORT[resolved.type]} as a !!${wanted}`, node)
}

function decodeBinary(node: YamlScalar): Buffer {
  const compact = node.text.replaceAll('\n', '').replaceAll('\r', '')
  const bytes = Buffer.from(compact, 'base64')
  const strict = compact.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(compact)
  if (!strict || bytes.toString('base64').length !== compact.length) {
    throw new YamlError('!!binary value contains invalid base64 data', node)
  }
  return bytes
}

const DECIMAL_FLOAT = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/

function finite(text: string): ResolvedScalar | undefined {
  if (!DECIMAL_FLOAT.test(text)) return undefined
  const value = Number(text)
  return Number.isFinite(value) ? float(value) : undefined
}

function number(text: string, tag: string, flavour: GoYamlFlavour): ResolvedScalar | undefined {
  const first = text.charAt(0)
  // No underscores in a number that begins with its point.
  if (first === '.') return finite(text)
  if (first !== '+' && first !== '-' && (first < '0' || first > '9')) return undefined
  if (tag === '' || tag === `${STANDARD}timestamp`) {
    const time = timestamp(text)
    if (time !== undefined) return { type: 'time', text: time }
  }
  const digits = text.replaceAll('_', '')
  const integer = parseGoInteger(digits) ?? doublySigned(digits, flavour)
  if (integer !== undefined) return { type: 'int', value: integer }
  return finite(digits)
}

/** A second try takes a sign behind the prefix: `0b-11` is -3, and to yaml.v3 `0o-17` is -15. */
function doublySigned(digits: string, flavour: GoYamlFlavour): bigint | undefined {
  const found = /^(0[bo])([-+])([0-9]+)$/.exec(digits)
  return found === null || (found[1] === '0o' && flavour === 'sigs')
    ? undefined
    : parseGoInteger(`${found[2]}${found[1]}${found[3]}`)
}

const TIMESTAMP =
  /^(\d{4})-(\d{1,2})-(\d{1,2})(?:([Tt ])(\d{1,2}):(\d{1,2}):(\d{1,2})(?:[.,](\d+))?(Z|[-+]\d\d:\d\d)?)?$/

/** A timestamp in one of the four layouts Go tries, rewritten as RFC 3339; `undefined` if it is none. */
function timestamp(text: string): string | undefined {
  const found = TIMESTAMP.exec(text)
  if (found === null) return undefined
  const [, year = '', month = '', day = '', separator, hour, minute, second, fraction = '', zone] = found
  // With a T the zone is required, with a space it is not allowed.
  if (separator !== undefined && (separator === ' ') !== (zone === undefined)) return undefined
  if (!validDate(Number(year), Number(month), Number(day))) return undefined
  if (Number(hour ?? 0) > 23 || Number(minute ?? 0) > 59 || Number(second ?? 0) > 59) return undefined
  if (zone !== undefined && zone !== 'Z' && (Number(zone.slice(1, 3)) > 24 || Number(zone.slice(4)) > 59)) {
    return undefined
  }
  const two = (part: string | undefined) => (part ?? '0').padStart(2, '0')
  const nanoseconds = fraction.slice(0, 9).replace(/0+$/, '')
  const offset =
    zone === undefined || zone === 'Z' || Number(zone.slice(1).replace(':', '')) === 0 ? 'Z' : zone
  const clock = `${two(hour)}:${two(minute)}:${two(second)}${nanoseconds === '' ? '' : `.${nanoseconds}`}`
  return `${year}-${two(month)}-${two(day)}T${clock}${offset}`
}

function validDate(year: number, month: number, day: number): boolean {
  if (month < 1 || month > 12 || day < 1) return false
  const date = new Date(0)
  date.setUTCFullYear(year, month, 0)
  return day <= date.getUTCDate()
}
