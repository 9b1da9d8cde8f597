/** Owns how a failed mount is told to the driver: one final gRPC code and one stable, short text. */
import type { ErrorKind, Problem } from '../providers/adapter.ts'

/**
 * The gRPC codes a Mount may end with. The other five (CANCELLED, DEADLINE_EXCEEDED,
 * RESOURCE_EXHAUSTED, ABORTED, UNAVAILABLE) are not final to kubelet: after them a pod can start on an
 * empty directory (driver.md section 4), so they cannot even be written here.
 */
export const FINAL_CODE = {
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  FAILED_PRECONDITION: 9,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const
export type FinalCode = (typeof FINAL_CODE)[keyof typeof FINAL_CODE]

/** Error kind → gRPC code, the same for every vendor (driver.md section 8.3). */
export const CODE_OF_KIND: Readonly<Record<ErrorKind, FinalCode>> = {
  config: FINAL_CODE.INVALID_ARGUMENT,
  unauthenticated: FINAL_CODE.UNAUTHENTICATED,
  denied: FINAL_CODE.PERMISSION_DENIED,
  'not-found': FINAL_CODE.NOT_FOUND,
  gone: FINAL_CODE.NOT_FOUND,
  throttled: FINAL_CODE.FAILED_PRECONDITION,
  unavailable: FINAL_CODE.FAILED_PRECONDITION,
  timeout: FINAL_CODE.FAILED_PRECONDITION,
  malformed: FINAL_CODE.DATA_LOSS,
  'too-large': FINAL_CODE.OUT_OF_RANGE,
  internal: FINAL_CODE.INTERNAL,
}

/**
 * Which kind names the whole mount when objects fail in different ways: what the user must mend
 * comes before what may pass by itself, so that the code is stable from call to call.
 */
const PRECEDENCE: readonly ErrorKind[] = [
  'config',
  'unauthenticated',
  'denied',
  'not-found',
  'gone',
  'malformed',
  'too-large',
  'internal',
  'throttled',
  'unavailable',
  'timeout',
]

/** Longest text a failed mount may have, in bytes of UTF-8 (driver.md section 3). */
export const MAX_MESSAGE_BYTES = 1000

/** One failed object of a mount. */
export interface ObjectFailure {
  readonly kind: ErrorKind
  /** Stable, documented word. */
  readonly code: string
  readonly message: string
  readonly remedy?: string | undefined
  /** Object name as the SPC's author knows it; absent when the whole mount failed. */
  readonly object?: string
  /** File that would have held it. */
  readonly file?: string
  /** Not the object was refused, but something on the way to it: see BackendError. */
  readonly indirect?: boolean
  /** The SPC is sound, but names what this pod may not use (any more): see PlanError.permitted. */
  readonly withdrawn?: boolean
}

/** A mount that ends without files. The server sends `grpcCode` and `message` as they are. */
export class MountFailure extends Error {
  override readonly name = 'MountFailure'
  readonly grpcCode: FinalCode
  readonly kind: ErrorKind
  readonly failures: readonly ObjectFailure[]

  constructor(failures: readonly [ObjectFailure, ...ObjectFailure[]]) {
    super(describe(failures))
    const worst = failures.toSorted((a, b) => PRECEDENCE.indexOf(a.kind) - PRECEDENCE.indexOf(b.kind))[0]
    this.kind = worst?.kind ?? 'internal'
    this.grpcCode = CODE_OF_KIND[this.kind]
    this.failures = failures
  }

  /** A failure of the mount as a whole. */
  static of(kind: ErrorKind, code: string, message: string, remedy?: string): MountFailure {
    return new MountFailure([{ kind, code, message, remedy }])
  }

  /** Every fault of an SPC, as one failure. */
  static ofProblems(problems: readonly Problem[]): MountFailure {
    const [first, ...rest] = problems.map(problemFailure)
    if (!first)
      return MountFailure.of('internal', 'INTERNAL', 'the SecretProviderClass was refused without a reason')
    return new MountFailure([first, ...rest])
  }
}

function problemFailure(problem: Problem): ObjectFailure {
  const place =
    problem.line === undefined ? '' : ` (line ${problem.line} of ${problem.parameter ?? 'parameters'})`
  return {
    kind: problem.kind ?? 'config',
    code: problem.code,
    message: problem.message + place,
    remedy: problem.remedy,
  }
}

/** Between two clauses. */
const SEPARATOR = '; '

/**
 * `CODE: object "name" (file): what is wrong [kind]; … Remedy.` Objects that failed alike share one
 * clause, and a remedy is said once; a text over {@link MAX_MESSAGE_BYTES} ends in `… and N more`.
 */
function describe(failures: readonly ObjectFailure[]): string {
  const remedies = new Set(failures.flatMap((failure) => failure.remedy ?? []))
  const remedy = clip(
    remedies.size === 0 ? '' : `. ${[...remedies].slice(0, 2).map(sentence).join(' ')}`,
    300,
  )
  const room = MAX_MESSAGE_BYTES - Buffer.byteLength(remedy) - 20
  const clauses: string[] = []
  let used = 0
  let left = failures.length
  for (const alike of Map.groupBy(failures, (one) =>
    JSON.stringify([one.code, one.message, one.kind]),
  ).values()) {
    const clause = clip(describeAlike(alike), room - SEPARATOR.length)
    const size = Buffer.byteLength(clause) + SEPARATOR.length
    if (used + size > room) break
    clauses.push(clause)
    used += size
    left -= alike.length
  }
  return printable(clauses.join(SEPARATOR) + (left > 0 ? `; and ${left} more` : '') + remedy)
}

/** How many objects that failed alike are named. */
const MAX_NAMED = 5

function describeAlike(alike: readonly ObjectFailure[]): string {
  const [first] = alike
  if (!first) return ''
  const named = alike.flatMap(({ object, file }) => {
    if (object === undefined) return []
    return `"${clip(object, 120)}"${file === undefined || file === object ? '' : ` (${clip(file, 120)})`}`
  })
  const more = named.length > MAX_NAMED ? ` and ${named.length - MAX_NAMED} more` : ''
  const objects = `${named.length > 1 ? 'objects' : 'object'} ${named.slice(0, MAX_NAMED).join(', ')}${more}: `
  return `${first.code}: ${named.length > 0 ? objects : ''}${first.message} [${first.kind}]`
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`
}

/** Cuts at a character boundary so that the result has at most `bytes` bytes of UTF-8. */
function clip(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text
  let cut = ''
  let size = 0
  for (const char of text) {
    size += Buffer.byteLength(char)
    if (size > bytes - 3) break
    cut += char
  }
  return `${cut}…`
}

/** Control characters and lone surrogates would break the event text or the gRPC status. */
function printable(text: string): string {
  return text.toWellFormed().replace(/\p{Cc}+/gu, ' ')
}
