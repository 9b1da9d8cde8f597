/** Owns the control side of the scripted provider: what it shall answer, what it was asked. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startProcess } from '../peers/process.ts'
import type { RunningProvider } from './provider.ts'

/** What a Mount of one volume gets. Without `code` and `error` it is a success. */
export interface Answer {
  readonly files?: readonly AnswerFile[]
  /** Default: one version `1` of the id `all`. */
  readonly versions?: readonly { readonly id: string; readonly version: string }[]
  /** A gRPC status code other than 0, with its text. */
  readonly code?: number
  readonly message?: string
  /** `error.code` of an otherwise successful response. */
  readonly error?: string
  readonly delayMs?: number
}

export interface AnswerFile {
  readonly path: string
  /** Default 0644. */
  readonly mode?: number
  readonly text?: string
  readonly base64?: string
}

/** A MountRequest as decoded from the wire. */
export interface MountCall {
  readonly attributes: string
  readonly secrets: string
  readonly target_path: string
  readonly permission: string
  readonly current_object_version: readonly { readonly id: string; readonly version: string }[]
}

export interface RecordedCall {
  readonly method: 'Mount' | 'Version'
  readonly request?: MountCall
  readonly metadata?: Readonly<Record<string, string>>
  /** Time left when the call arrived; absent without a deadline. */
  readonly deadlineMs?: number
}

export interface ScriptedProvider extends RunningProvider {
  /** Writes an answer file; give its path to the volume as attribute `answer`. Repeat to change it. */
  readonly script: (name: string, answer: Answer) => string
  /** Every call so far, of all scripted providers that share the folder. */
  readonly calls: () => readonly RecordedCall[]
}

/** Starts a scripted provider as `<socketDir>/<name>.sock`; its files live in `scratch`. `shim` for drivers up to 1.5. */
export async function startScripted(
  socketDir: string,
  name: string,
  scratch: string,
  accept: 'plain' | 'shim' = 'plain',
): Promise<ScriptedProvider> {
  const callsFile = join(scratch, `${name}.calls.jsonl`)
  const running = await startProcess({
    name: `scripted-${name}`,
    command: process.execPath,
    args: [
      join(import.meta.dirname, 'scripted-provider.ts'),
      join(socketDir, `${name}.sock`),
      callsFile,
      accept,
    ],
    scratch,
    ready: ({ log }) => (log().includes('ready\n') ? true : undefined),
  })
  return {
    ...running,
    script: (volume, answer) => writeAnswer(scratch, volume, answer),
    calls: () =>
      existsSync(callsFile)
        ? readFileSync(callsFile, 'utf8')
            .split('\n')
            .filter((line) => line !== '')
            .map((line) => JSON.parse(line) as RecordedCall)
        : [],
  }
}

/** Writes what the volumes of that name get from now on; returns the file for their attribute `answer`. */
export function writeAnswer(scratch: string, volume: string, answer: Answer): string {
  const file = join(scratch, `${volume}.answer.json`)
  writeFileSync(`${file}.new`, JSON.stringify(answer))
  renameSync(`${file}.new`, file)
  return file
}
