/** Owns the step from fetched values to files: select, expand, copy, size limit. */
import type { KeyObject } from 'node:crypto'
import {
  BackendError,
  SelectError,
  type ExpandOutput,
  type FileOutput,
  type Output,
  type Value,
  type ValuePart,
} from '../providers/adapter.ts'
import type { Provenance } from '../telemetry/audit.ts'
import type { Logger } from '../telemetry/log.ts'
import type { AnswerFile } from './answer.ts'
import type { ObjectFailure } from './errors.ts'
import { pathFault } from './outputs.ts'
import type { Resolution } from './resolver.ts'
import { keyedDigest } from './versions.ts'

export interface RenderOptions {
  /** The node's key for versions that a store does not give. */
  readonly versionKey: KeyObject
  /** Most bytes one file may have. */
  readonly maxFileBytes: number
  readonly log: Logger
}

/** Files of one output, or why there are none. */
export type Rendered =
  | { readonly files: readonly RenderedFile[]; readonly from: Provenance; readonly omitted?: boolean }
  | { readonly failure: ObjectFailure }

/** One file with the version it is reported under. */
export interface RenderedFile extends AnswerFile {
  readonly id: string
  readonly version: string
}
/** Bytes of one output's files. Whatever a selector throws becomes the object's failure. */
export function render(output: Output, resolution: Resolution | undefined, options: RenderOptions): Rendered {
  if (resolution === undefined) return { failure: internal(output) }
  if (resolution instanceof BackendError) {
    const absent = resolution.kind === 'not-found' || resolution.kind === 'gone'
    if (output.optional && absent) return { files: [], from: 'none', omitted: true }
    return { failure: failureOf(output, resolution) }
  }
  const { value } = resolution
  try {
    const files =
      output.kind === 'file'
        ? [fileOf(output, value, options.versionKey)]
        : (value.parts ?? []).map((part) => partOf(output, part, value.version, options.versionKey))
    const large = files.find((file) => file.contents.length > options.maxFileBytes)
    if (large) {
      const message = `the file "${large.path}" has ${large.contents.length} bytes; the limit is ${options.maxFileBytes}`
      const remedy = 'Raise limits.fileBytes in the configuration, or split the secret'
      return {
        failure: { kind: 'too-large', code: 'FILE_TOO_LARGE', message, remedy, object: output.object },
      }
    }
    return { files, from: resolution.from }
  } catch (error) {
    if (error instanceof SelectError) {
      if (output.optional && error.kind === 'not-found') return { files: [], from: 'none', omitted: true }
      return { failure: failureOf(output, error) }
    }
    options.log.error('a selector threw something that is not a SelectError', {
      object: output.object,
      error: error instanceof Error ? error.name : typeof error,
    })
    return { failure: internal(output) }
  }
}

function fileOf(output: FileOutput, value: Value, key: KeyObject): RenderedFile {
  const { path, mode, select, versionId } = output
  const fetched = value.bytes.reveal()
  const contents = copyOf(select ? select(fetched) : fetched)
  const made = (): string =>
    output.version?.({ key, contents, value: fetched }) ?? keyedDigest(key, path, contents)
  return { path, mode, contents, id: versionId ?? path, version: value.version || made() }
}

function partOf(output: ExpandOutput, part: ValuePart, version: string, key: KeyObject): RenderedFile {
  const path = output.into === '' ? part.name : `${output.into}/${part.name}`
  const fault = pathFault(path)
  if (fault !== undefined) {
    throw new SelectError({
      kind: 'config',
      code: 'INVALID_PATH',
      message: `its part "${part.name}" cannot be a file: the path ${fault}`,
      remedy: 'List the objects one by one and give each a file name',
    })
  }
  const contents = copyOf(part.bytes.reveal())
  return {
    path,
    mode: output.mode,
    contents,
    id: output.versionId?.(part.name) ?? path,
    version: (part.version ?? version) || keyedDigest(key, path, contents),
  }
}

/** A copy in a buffer of its own: the answer is wiped after it was sent, the cached value is not. */
function copyOf(bytes: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.byteLength)
  copy.set(bytes)
  return copy
}

function failureOf(output: Output, error: BackendError | SelectError): ObjectFailure {
  const file = output.kind === 'file' ? { file: output.path } : {}
  return {
    kind: error.kind,
    code: error.code,
    message: error.message,
    remedy: error.remedy,
    object: output.object,
    ...file,
  }
}

function internal(output: Output): ObjectFailure {
  return {
    kind: 'internal',
    code: 'INTERNAL',
    message: 'the provider failed in a way it should not',
    remedy: "Look into the provider's log and report it",
    object: output.object,
  }
}
