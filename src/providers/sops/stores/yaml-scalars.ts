/** Owns the typing of YAML scalars as go-yaml v3 does it for an untyped target: what SOPS hashes (sops A4). */
import { parseDecimalFloat } from '../canonical.ts'
import { strictBase64 } from '../encodings.ts'
import { canonicalTime, timeExists } from '../time.ts'
import { text, type Scalar } from '../tree.ts'

/** Why a scalar is refused. A phrase for a message; never quotes the scalar. */
export type ScalarFault = { readonly fault: string }

const INT64_MAX = 2n ** 63n - 1n
const UINT64_MAX = 2n ** 64n - 1n

const NULL: Scalar = { type: 'null' }
const WORDS: ReadonlyMap<string, Scalar> = new Map<string, Scalar>([
  ...['', '~', 'null', 'Null', 'NULL'].map((word): [string, Scalar] => [word, NULL]),
  ...['true', 'True', 'TRUE'].map((word): [string, Scalar] => [word, { type: 'bool', value: true }]),
  ...['false', 'False', 'FALSE'].map((word): [string, Scalar] => [word, { type: 'bool', value: false }]),
  ...['.nan', '.NaN', '.NAN'].map((word): [string, Scalar] => [word, { type: 'float', value: Number.NaN }]),
  ...['.inf', '.Inf', '.INF'].flatMap((word): [string, Scalar][] => [
    [word, { type: 'float', value: Infinity }],
    [`+${word}`, { type: 'float', value: Infinity }],
    [`-${word}`, { type: 'float', value: -Infinity }],
  ]),
])

const TIMESTAMP =
  /^(\d{4})-(\d\d?)-(\d\d?)(?:(?:([Tt])| )(\d\d?):(\d\d?):(\d\d?)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)?)?$/

/** A timestamp: a date, or a date and time whose offset stands exactly with `T` or `t`. */
function timeOf(source: string): Scalar | undefined {
  const match = TIMESTAMP.exec(source)
  if (match === null) return undefined
  const [, year = '', month = '', day = '', t, hour = '0', minute = '0', second = '0', fraction, offset] =
    match
  if (match[5] !== undefined && (t === undefined) !== (offset === undefined)) return undefined
  if (!timeExists(...([year, month, day, hour, minute, second].map(Number) as [number, number, number]))) {
    return undefined
  }
  const [mm, dd, h, m, s] = [month, day, hour, minute, second].map((part) => part.padStart(2, '0'))
  const whole = `${year}-${mm}-${dd}T${h}:${m}:${s}${fraction === undefined ? '' : `.${fraction}`}`
  const canonical = canonicalTime(`${whole}${offset ?? 'Z'}`)
  return canonical === undefined ? undefined : { type: 'time', text: canonical }
}

/** Prefix, digits and base of the integer spellings, tried in order. */
const INTEGER_FORMS: readonly { readonly form: RegExp; readonly prefix: string }[] = [
  { form: /^0[xX]0*([0-9a-fA-F]{1,16})$/, prefix: '0x' },
  { form: /^0[bB]0*([01]{1,64})$/, prefix: '0b' },
  { form: /^0[oO]0*([0-7]{1,22})$/, prefix: '0o' },
  { form: /^00*([0-7]{1,22})$/, prefix: '0o' },
  { form: /^(0|[1-9]\d{0,19})$/, prefix: '' },
]

/** A number in go-yaml's spellings, underscores removed already; undefined when it is text. */
function numberOf(plain: string): Scalar | ScalarFault | undefined {
  const sign = plain.startsWith('-') || plain.startsWith('+') ? plain.slice(0, 1) : ''
  const digits = plain.slice(sign.length)
  for (const { form, prefix } of INTEGER_FORMS) {
    const found = form.exec(digits)?.[1]
    if (found === undefined) continue
    const magnitude = BigInt(prefix + found)
    const value = sign === '-' ? -magnitude : magnitude
    if (value >= -INT64_MAX - 1n && value <= INT64_MAX) return { type: 'int', value }
    if (sign === '' && value <= UINT64_MAX) return { fault: 'an integer is above int64' }
    break
  }
  const value = parseDecimalFloat(plain)
  return value === undefined ? undefined : { type: 'float', value }
}

/** After a leading point, `_` may stand between digits only. */
function withoutUnderscores(source: string): string | undefined {
  if (!source.startsWith('.')) return source.replaceAll('_', '')
  if (!source.includes('_')) return source
  for (let i = source.indexOf('_'); i !== -1; i = source.indexOf('_', i + 1)) {
    if (!/^\d_\d$/.test(source.slice(i - 1, i + 2))) return undefined
  }
  return source.replaceAll('_', '')
}

/** Types the source text of a plain scalar without tag. */
function plainScalar(source: string): Scalar | ScalarFault {
  const word = WORDS.get(source)
  if (word !== undefined) return word
  const first = source.charCodeAt(0)
  const isDigit = first >= 0x30 && first <= 0x39
  if (isDigit && source[4] === '-') {
    const time = timeOf(source)
    if (time !== undefined) return time
  }
  if (isDigit || source.startsWith('+') || source.startsWith('-') || source.startsWith('.')) {
    const plain = withoutUnderscores(source)
    const number = plain === undefined ? undefined : numberOf(plain)
    if (number !== undefined) return number
  }
  return text(source)
}

const CORE = 'tag:yaml.org,2002:'
/** Tags that force a type: on quoted text as well, or the document is refused. */
const FORCED: ReadonlyMap<string, Scalar['type']> = new Map([
  [`${CORE}int`, 'int'],
  [`${CORE}float`, 'float'],
  [`${CORE}bool`, 'bool'],
  [`${CORE}null`, 'null'],
  [`${CORE}timestamp`, 'time'],
])

/**
 * Types a scalar.
 * @param source its text, folded and unescaped
 * @param isPlain whether it stands without quotes and is no block scalar
 * @param tag expanded tag, if any
 */
export function typeScalar(source: string, isPlain: boolean, tag?: string): Scalar | ScalarFault {
  if (tag === undefined || tag === '!') return isPlain ? plainScalar(source) : text(source)
  if (tag === `${CORE}binary`) {
    const bytes = strictBase64(source.replaceAll('\r', '').replaceAll('\n', ''))
    return bytes === undefined ? { fault: 'a !!binary value is no strict base64' } : { type: 'str', bytes }
  }
  const wanted = FORCED.get(tag)
  // `!!str` and every other tag: text.
  if (wanted === undefined) return text(source)
  const found = plainScalar(source)
  if ('fault' in found || found.type === wanted) return found
  if (wanted === 'float' && found.type === 'int') return { type: 'float', value: Number(found.value) }
  return { fault: `a value is no ${tag.replace(CORE, '!!')} although tagged so` }
}
