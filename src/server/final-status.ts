/**
 * Owns the promise that Mount ends with a final code only, also where grpc-js itself ends the call
 * (driver.md section 4): after one of the five other codes a pod can start on an empty directory.
 */
import { status, type ServerInterceptingCallInterface } from '@grpc/grpc-js'
import { CODE_OF_KIND, MAX_MESSAGE_BYTES, MountFailure } from '../mount/errors.ts'

type Status = (typeof status)[keyof typeof status]

/** What ends a call. */
export interface FinalStatus {
  readonly code: Status
  readonly details: string
}

/** What the server says where it, and not the mount, is the reason. */
export const FAILURE = {
  internal: MountFailure.of(
    'internal',
    'INTERNAL',
    'the provider failed in a way it did not expect',
    'See the log of the keyferry pod on this node',
  ),
  requestTooLarge: (limit: number): MountFailure =>
    MountFailure.of('too-large', 'REQUEST_TOO_LARGE', `the Mount request is larger than ${limit} bytes`),
  responseTooLarge: (size: number, limit: number): MountFailure =>
    MountFailure.of(
      'too-large',
      'RESPONSE_TOO_LARGE',
      `the files of this volume need ${size} bytes, more than the limit of ${limit} bytes`,
      'Split the SecretProviderClass, or raise maxCallRecvMsgSize of the driver and the limit of keyferry together',
    ),
  queueFull: MountFailure.of(
    'throttled',
    'TOO_MANY_MOUNTS',
    'too many mounts are waiting on this node',
    'Kubelet tries again by itself; if it lasts, see which store is slow in the log of the keyferry pod',
  ),
  outOfBudget: (budgetMs: number): MountFailure =>
    MountFailure.of(
      'timeout',
      'TIMEOUT',
      `the mount did not finish within ${budgetMs / 1000} s`,
      'The log of the keyferry pod on this node says which store was slow',
    ),
  shuttingDown: MountFailure.of(
    'unavailable',
    'SHUTTING_DOWN',
    'the provider is being replaced and the mount did not finish in time',
    'Kubelet tries again by itself',
  ),
  deadline: MountFailure.of(
    'timeout',
    'TIMEOUT',
    "the caller's deadline ended before the mount did",
    'The log of the keyferry pod on this node says which store was slow',
  ),
} as const

/** The status that tells `failure`. */
export function statusOf(failure: MountFailure): FinalStatus {
  return { code: failure.grpcCode, details: failure.message }
}

/** Codes that grpc-js may send by itself and that are not final, or say nothing to the user. */
function replacement(code: Status, maxRequestBytes: number): MountFailure | undefined {
  switch (code) {
    case status.RESOURCE_EXHAUSTED:
      return FAILURE.requestTooLarge(maxRequestBytes)
    case status.DEADLINE_EXCEEDED:
      return FAILURE.deadline
    default:
      return KNOWN_CODES.has(code) ? undefined : FAILURE.internal
  }
}

const KNOWN_CODES: ReadonlySet<number> = new Set([
  status.OK,
  status.UNIMPLEMENTED,
  ...Object.values(CODE_OF_KIND),
])

/** `given`, with a final code and a text that gRPC can carry. */
export function finalStatus(given: FinalStatus, maxRequestBytes: number): FinalStatus {
  const failure = replacement(given.code, maxRequestBytes)
  if (failure) return statusOf(failure)
  // grpc-js percent-encodes the text with encodeURI, which throws on a lone surrogate.
  const details = given.details.toWellFormed()
  return { code: given.code, details: details.slice(0, MAX_MESSAGE_BYTES) }
}

/**
 * Makes every status that `call` sends final. grpc-js ends calls from inside (deadline, oversize or
 * undecodable request) by calling its own `sendStatus`, past any interceptor; so that method is
 * replaced on the call itself.
 * @returns a function that gives the first status sent so far.
 */
export function sendOnlyFinalStatus(
  call: ServerInterceptingCallInterface,
  maxRequestBytes: number,
): () => FinalStatus | undefined {
  const send = call.sendStatus.bind(call)
  let sent: FinalStatus | undefined
  call.sendStatus = (given) => {
    const final = finalStatus(
      { code: given.code ?? status.OK, details: given.details ?? '' },
      maxRequestBytes,
    )
    sent ??= final
    send({ ...given, ...final })
  }
  return () => sent
}
