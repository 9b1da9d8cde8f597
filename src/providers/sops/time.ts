/** Owns the RFC 3339 texts of SOPS: `lastmodified` and the type `time` (sops A5, A7, A9.4). */

interface TimeParts {
  /** `YYYY-MM-DDThh:mm:ss` */
  readonly seconds: string
  /** Digits of the fraction, or `''`. */
  readonly fraction: string
  /** `Z` or `±hh:mm`; zero is always `Z`. */
  readonly offset: string
}

const FORM = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))$/

/** Days of a month, 1..12, in the Gregorian calendar. */
function daysOfMonth(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

/** Whether the numbers name a date and a time of day that exist; no leap second. */
export function timeExists(
  year: number,
  month: number,
  day: number,
  hour = 0,
  minute = 0,
  second = 0,
): boolean {
  return (
    month >= 1 &&
    month <= 12 &&
    day >= 1 &&
    day <= daysOfMonth(year, month) &&
    hour <= 23 &&
    minute <= 59 &&
    second <= 59
  )
}

function partsOf(text: string): TimeParts | undefined {
  const match = FORM.exec(text)
  if (match === null) return undefined
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number)
  if (!timeExists(year ?? 0, month ?? 0, day ?? 0, hour, minute, second)) return undefined
  const [, , , , , , , fraction = '', sign, offsetHour = '00', offsetMinute = '00'] = match
  if (Number(offsetHour) > 23 || Number(offsetMinute) > 59) return undefined
  const zero = sign === undefined || (offsetHour === '00' && offsetMinute === '00')
  return { seconds: text.slice(0, 19), fraction, offset: zero ? 'Z' : `${sign}${offsetHour}:${offsetMinute}` }
}

/**
 * The canonical form of a `time` (A7): at most nine digits of fraction without trailing zeros,
 * offset kept, zero offset `Z`. Undefined when the text is no such time.
 */
export function canonicalTime(text: string): string | undefined {
  const parts = partsOf(text)
  if (parts === undefined) return undefined
  let end = Math.min(parts.fraction.length, 9)
  while (end > 0 && parts.fraction[end - 1] === '0') end -= 1
  return `${parts.seconds}${end > 0 ? `.${parts.fraction.slice(0, end)}` : ''}${parts.offset}`
}

/** `lastmodified` as the AAD of the MAC token has it (A9.4): whole seconds. Undefined when it is no time. */
export function lastModifiedAad(text: string): string | undefined {
  const parts = partsOf(text)
  return parts === undefined ? undefined : `${parts.seconds}${parts.offset}`
}
