/** Owns the step from fetched values to files: select, expand, copy, size limit. */
import {
  BackendError,
  SelectError,
  type ExpandOutput,
  type FileOutput,
  type Output,
  type ValuePart,
} from '../providers/adapter.ts'
import type { Provenance } from '../telemetry/audit.ts'
import type { Logger } from '../telemetry/log.ts'
import type { AnswerFile } from './answer.ts'
import type { ObjectFailure } from './errors.ts'
import { pathFault } from './outputs.ts'
import type { Resolution } from './resolver.ts'
import type { Digest } from './versions.ts'

export interface RenderOptions {
  readonly digest: Digest
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
        ? [
            fileOf(
              output,
              output.path,
              selected(output, value.bytes.reveal()),
              value.version,
              output.versionId,
              options,
            ),
          ]
        : (value.parts ?? []).map((part) => partOf(output, part, value.version, options))
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

function selected(output: FileOutput, bytes: Buffer): Uint8Array {
  return output.select ? output.select(bytes) : bytes
}

function partOf(
  output: ExpandOutput,
  part: ValuePart,
  version: string,
  options: RenderOptions,
): RenderedFile {
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
  return fileOf(
    output,
    path,
    part.bytes.reveal(),
    part.version ?? version,
    output.versionId?.(part.name),
    options,
  )
}

/** Copies: the answer is wiped after it was sent, the cached value is not. */
function fileOf(
  output: Output,
  path: string,
  bytes: Uint8Array,
  version: string,
  id: string | undefined,
  options: RenderOptions,
): RenderedFile {
  const contents = Buffer.allocUnsafeSlow(bytes.byteLength)
  contents.set(bytes)
  return {
    path,
    mode: output.mode,
    contents,
    id: id ?? path,
    version: version === '' ? options.digest(path, contents) : version,
  }
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
