/** Owns what a mount gives back to the server, and the type of the pipeline itself. */
import type { MountRequest } from './request.ts'

/** One file as the driver will write it. */
export interface AnswerFile {
  readonly path: string
  /** 0..511. */
  readonly mode: number
  readonly contents: Buffer
}

/** A complete file set with its versions (driver.md section 8.4). */
export interface MountAnswer {
  readonly files: readonly AnswerFile[]
  readonly versions: readonly { readonly id: string; readonly version: string }[]
  /** Called once the whole response was handed to the transport; not for an answer that is thrown away. */
  delivered?(): void
  /** Overwrites the contents; called once the response has been handed to the transport. */
  release(): void
}

export interface MountContext {
  /** Socket name the call came in on. */
  readonly provider: string
  /** Fires when the mount's budget ends or its caller is gone. */
  readonly signal: AbortSignal
  /** End of the budget, milliseconds since the epoch. */
  readonly deadline: number
}

/** @throws MountFailure */
export type MountPipeline = (request: MountRequest, context: MountContext) => Promise<MountAnswer>
