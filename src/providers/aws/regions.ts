/** Owns the order in which regions are asked for one thing: primary, its one repeat, failover (aws.md section 7). */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Host } from '../adapter.ts'
import { BackendError } from '../adapter.ts'
import { AwsFailure, backendError } from './failures.ts'
import type { RegionFailure } from './failures.ts'

export interface RegionCalls<T> {
  /** Asks a region; `second` says that it is the failover region. @throws AwsFailure */
  readonly ask: (region: string, second: boolean) => Promise<T>
  /** With eager failover: what the second region must be able to do although the first succeeded. @throws AwsFailure */
  readonly check?: ((region: string, result: T) => Promise<void>) | undefined
}

/** A blip must not swap a volume's content for another region's: the primary gets a second chance. */
const REPEAT_AFTER_MS = 150
const WORTH_REPEATING = new Set(['throttled', 'unavailable'])

/**
 * The first region's result, or the second's after a failure that is not final.
 * @throws BackendError quoting every region tried.
 */
export async function askRegions<T>(
  regions: readonly [primary: string, failover?: string],
  calls: RegionCalls<T>,
  host: Host,
): Promise<T> {
  const [primary, second] = regions
  const failures: RegionFailure[] = []
  const note = (region: string, error: unknown): AwsFailure => {
    if (!(error instanceof AwsFailure)) throw error
    failures.push({ region, failure: error })
    host.log.warn('AWS call failed', {
      region,
      awsCode: error.awsCode,
      kind: error.kind,
      requestId: error.requestId,
    })
    return error
  }
  try {
    const result = await primaryResult(calls, primary, second !== undefined, host)
    if (second !== undefined && calls.check !== undefined) await checkedIn(second, calls.check, result, note)
    return result
  } catch (error) {
    if (error instanceof BackendError) throw error
    const failure = note(primary, error)
    if (failure.final || second === undefined || host.signal.aborted) throw backendError(failures)
  }
  try {
    return await calls.ask(second, true)
  } catch (error) {
    if (error instanceof BackendError) throw error
    note(second, error)
    throw backendError(failures)
  }
}

async function primaryResult<T>(
  calls: RegionCalls<T>,
  region: string,
  hasFailover: boolean,
  host: Host,
): Promise<T> {
  try {
    return await calls.ask(region, false)
  } catch (error) {
    const repeat =
      hasFailover && error instanceof AwsFailure && !error.final && WORTH_REPEATING.has(error.kind)
    if (!repeat || host.signal.aborted) throw error
    await sleep(REPEAT_AFTER_MS * (0.5 + Math.random()), undefined, { signal: host.signal }).catch(
      () => undefined,
    )
    return calls.ask(region, false)
  }
}

async function checkedIn<T>(
  region: string,
  check: (region: string, result: T) => Promise<void>,
  result: T,
  note: (region: string, error: unknown) => AwsFailure,
): Promise<void> {
  try {
    await check(region, result)
  } catch (error) {
    const failure = note(region, error)
    if (failure.final) throw backendError([{ region, failure }])
  }
}
