/** Owns how Go reads and writes numbers where that shows in a file: integer literals, `%g`, JSON floats. */

const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n
const UINT64_MAX = 2n ** 64n - 1n

const BASES: Readonly<Record<string, { readonly digits: RegExp; readonly prefix: string }>> = {
  x: { digits: /^[0-9a-fA-F]+$/, prefix: '0x' },
  o: { digits: /^[0-7]+$/, prefix: '0o' },
  b: { digits: /^[01]+$/, prefix: '0b' },
  d: { digits: /^[0-9]+$/, prefix: '' },
}

/** More significant digits than 64 bits have in any base: out of range without building the number. */
const MOST_DIGITS = 64

function magnitude(digits: string, base: string): bigint | undefined {
  const rule = BASES[base]
  if (rule === undefined || !rule.digits.test(digits)) return undefined
  const significant = digits.replace(/^0+/, '')
  if (significant === '') return 0n
  if (significant.length > MOST_DIGITS) return UINT64_MAX + 1n
  return BigInt(rule.prefix + significant)
}

/**
 * An integer literal as Go reads it with base 0: decimal, `0x`, `0b`, `0o` and leading-zero octal.
 * The signed 64-bit range is tried first, then the unsigned one (without a sign).
 * @returns `undefined` for anything else, also for numbers out of range.
 */
export function parseGoInteger(text: string): bigint | undefined {
  const signed = text.startsWith('-') || text.startsWith('+')
  const negative = text.startsWith('-')
  const body = signed ? text.slice(1) : text
  let value: bigint | undefined
  const letter = body.length > 2 && body.startsWith('0') ? body.charAt(1).toLowerCase() : ''
  if (letter === 'x' || letter === 'o' || letter === 'b') value = magnitude(body.slice(2), letter)
  else if (body.length > 1 && body.startsWith('0')) value = magnitude(body.slice(1), 'o')
  else value = magnitude(body, 'd')
  if (value === undefined) return undefined
  if (negative) value = -value
  if (value >= INT64_MIN && value <= INT64_MAX) return value
  return !signed && value <= UINT64_MAX ? value : undefined
}

/** Go's `%e` exponent has a sign and at least two digits. */
function goExponent(digits: string, exponent: number): string {
  const mantissa = digits.length > 1 ? `${digits.charAt(0)}.${digits.slice(1)}` : digits
  const size = Math.abs(exponent).toString().padStart(2, '0')
  return `${mantissa}e${exponent < 0 ? '-' : '+'}${size}`
}

/**
 * A float as Go's `strconv.FormatFloat(value, 'g', -1, 32)` writes it: shortest text of the nearest
 * 32-bit float, with an exponent below 1e-4 and from 1e6 on.
 */
export function formatGoFloat32(value: number): string {
  const single = Math.fround(value)
  if (Number.isNaN(single)) return 'NaN'
  if (single === Infinity) return '+Inf'
  if (single === -Infinity) return '-Inf'
  if (single === 0) return Object.is(single, -0) ? '-0' : '0'
  const size = Math.abs(single)
  let scientific = ''
  for (let precision = 1; precision <= 9; precision++) {
    scientific = size.toExponential(precision - 1)
    if (Math.fround(Number(scientific)) === size) break
  }
  const sign = single < 0 ? '-' : ''
  const [mantissa = '', power = '0'] = scientific.split('e')
  const digits = mantissa.replace('.', '').replace(/0+$/, '') || '0'
  const exponent = Number(power)
  if (exponent < -4 || exponent >= 6) return sign + goExponent(digits, exponent)
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0')
  const fraction = digits.slice(exponent + 1)
  return sign + (fraction === '' ? whole : `${whole}.${fraction}`)
}

/** A float as Go's `encoding/json` writes it, or `undefined` for infinities and NaN, which it refuses. */
export function formatGoJsonFloat(value: number): string | undefined {
  if (!Number.isFinite(value)) return undefined
  return Object.is(value, -0) ? '-0' : String(value)
}
