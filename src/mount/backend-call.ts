/** Owns the calls of a backend: whatever an adapter does, values or errors come back, in input order. */
import {
  BackendError,
  type Backend,
  type ErrorKind,
  type Host,
  type Source,
  type Value,
} from '../providers/adapter.ts'
import { HttpError, type HttpFailure } from '../net/http.ts'
import { SecretBytes } from '../telemetry/secret-bytes.ts'
import type { Caller } from './caller.ts'

/** A source with the backend that serves it. */
interface Asked {
  readonly source: Source
  readonly backend: Backend
}

/** A backend is asked once for each identity that a mount uses. */
export function admission({ source }: Pick<Asked, 'source'>): string {
  return `${source.identity} ${source.backend}`
}

/** The backends that will not answer this mount, and why. */
export async function refusals(
  wanted: readonly Asked[],
  caller: Caller,
): Promise<ReadonlyMap<string, BackendError>> {
  const asked = new Map<string, BackendError | undefined>()
  for (const { source, backend } of wanted) {
    const key = admission({ source })
    if (backend.admit === undefined || asked.has(key)) continue
    const refusal = await refusalOf(backend, caller.host(source, caller.signal))
    asked.set(key, refusal)
  }
  return new Map([...asked].flatMap(([key, refusal]) => (refusal ? [[key, refusal] as const] : [])))
}

async function refusalOf(backend: Backend, host: Host): Promise<BackendError | undefined> {
  try {
    await backend.admit?.(host)
    return undefined
  } catch (error) {
    return asBackendError(error)
  }
}

/** Values or errors, one per source of one store. Never throws. */
export async function callBackend(
  backend: Backend,
  wanted: readonly Pick<Asked, 'source'>[],
  host: Host,
): Promise<readonly (Value | BackendError)[]> {
  const store = wanted[0]?.source.store
  try {
    const answers = await backend.resolve(
      store,
      wanted.map(({ source }) => source.ref),
      host,
    )
    if (!Array.isArray(answers) || answers.length !== wanted.length)
      return wanted.map(() => brokenAdapter(backend.kind))
    return answers.map((answer) =>
      isValue(answer) || answer instanceof BackendError ? answer : brokenAdapter(backend.kind),
    )
  } catch (error) {
    if (!(error instanceof BackendError || error instanceof HttpError)) {
      host.log.error('backend threw something that is not a BackendError', {
        backend: backend.kind,
        error: error instanceof Error ? error.name : typeof error,
      })
    }
    const failure = asBackendError(error)
    return wanted.map(() => failure)
  }
}

function isValue(answer: unknown): answer is Value {
  return (
    typeof answer === 'object' && answer !== null && 'bytes' in answer && answer.bytes instanceof SecretBytes
  )
}

const KIND_OF_HTTP: Readonly<Record<HttpFailure, ErrorKind>> = {
  'refused-address': 'denied',
  unreachable: 'unavailable',
  tls: 'unavailable',
  timeout: 'timeout',
  aborted: 'timeout',
  'too-large': 'too-large',
  malformed: 'malformed',
}

/** What an adapter threw, without what it may have put into the text. */
export function asBackendError(error: unknown): BackendError {
  if (error instanceof BackendError) return error
  if (error instanceof HttpError) {
    return new BackendError({
      kind: KIND_OF_HTTP[error.failure],
      code: 'HTTP_FAILED',
      message: error.message,
      indirect: true,
    })
  }
  return new BackendError({
    kind: 'internal',
    code: 'INTERNAL',
    message: 'the backend failed in a way it should not',
    remedy: "Look for 'backend threw' in the provider's log and report it",
  })
}

/** An adapter broke its contract. */
export function brokenAdapter(kind: string): BackendError {
  return new BackendError({
    kind: 'internal',
    code: 'INTERNAL',
    message: `the adapter ${kind} gave no usable answer`,
  })
}
