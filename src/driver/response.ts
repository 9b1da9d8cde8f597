/** Owns what the driver makes of an answer: the first rule that applies ends it (driver.md section 3). */
import { WriteError, writePayload, type PayloadFile } from './atomic-writer.ts'
import { statusText, type CodeName } from './codes.ts'
import type { WireMountResponse, ObjectVersion } from '../rpc/contract.ts'
import type { CallOutcome } from './dial.ts'
import { pathProblem } from './file-paths.ts'
import { compareBytes } from './go-text.ts'

/** Above this size the driver logs that a synced Secret may not fit. */
const LARGE_RESPONSE_BYTES = 1024 * 1024

/** What became of one Mount call. */
export type MountOutcome =
  | {
      readonly ok: true
      /** One entry an id, sorted bytewise. */
      readonly versions: readonly ObjectVersion[]
      readonly files: 'written' | 'unchanged' | 'none'
    }
  | {
      readonly ok: false
      /** The code kubelet would get: the provider's own for a status, `Unknown` for the rest. */
      readonly code: CodeName
      /** What follows `err: ` in the driver's text. */
      readonly message: string
      /** The metric label `error_type`. */
      readonly errorType: string
    }

/** Where files go: the directory as this process sees it, and its name in texts. */
export interface WriteTarget {
  readonly dir: string
  readonly shownDir: string
}

/** Handles an answer in the driver's order. `log` takes the driver's own log lines. */
export function settleMount(
  outcome: CallOutcome<WireMountResponse>,
  target: WriteTarget,
  log: (line: string) => void,
): MountOutcome {
  if (!outcome.ok) {
    const { code, message } = outcome
    if (code === 'ResourceExhausted' && message.startsWith('grpc: received message larger than max')) {
      log('Set --max-call-recv-msg-size to configure larger maximum size in bytes of gRPC response')
    }
    return { ok: false, code, message: statusText(code, message), errorType: 'GRPCProviderError' }
  }
  const { message: response, size } = outcome
  const errorCode = response.error?.code ?? ''
  if (errorCode !== '') {
    const message = `mount request failed with provider error code ${errorCode}`
    return { ok: false, code: 'Unknown', message, errorType: errorCode }
  }
  if (response.object_version.length === 0) {
    return { ok: false, code: 'Unknown', message: 'missing object versions', errorType: 'GRPCProviderError' }
  }
  const versions = sortedVersions(response.object_version)
  if (size > LARGE_RESPONSE_BYTES) log(`proto above 1MiB, secret sync may fail size=${size}`)
  if (response.files.length === 0) return { ok: true, versions, files: 'none' }
  try {
    return { ok: true, versions, files: writeFiles(response.files, target) }
  } catch (error) {
    if (!(error instanceof WriteError)) throw error
    return { ok: false, code: 'Unknown', message: error.message, errorType: 'FileWriteError' }
  }
}

/** Last entry of an id wins. */
function sortedVersions(versions: readonly ObjectVersion[]): readonly ObjectVersion[] {
  const byId = new Map(versions.map(({ id, version }) => [id, version]))
  return [...byId].sort(([a], [b]) => compareBytes(a, b)).map(([id, version]) => ({ id, version }))
}

/** Last file of a path wins, but every path is checked first, in order. */
function writeFiles(files: WireMountResponse['files'], target: WriteTarget): 'written' | 'unchanged' {
  const payload = new Map<string, PayloadFile>()
  for (const { path, mode, contents } of files) {
    const problem = pathProblem(path)
    if (problem !== undefined) throw new WriteError(problem)
    payload.set(path, { mode, contents })
  }
  return writePayload(target.dir, payload, target.shownDir)
}
