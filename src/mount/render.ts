/** Owns the step from fetched values to files: select, expand, copy, size limit. */
import type { KeyObject } from 'node:crypto'
import {
  BackendError,
  SelectError,
  type ErrorKind,
  type ExpandOutput,
  type FileOutput,
  type Gathered,
  type GatherOutput,
  type Output,
  type Value,
} from '../providers/adapter.ts'
import type { Steps } from '../formats/steps.ts'
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
  /** Most bytes that the objects of a gathered file may have together. */
  readonly maxTotalBytes: number
  readonly log: Logger
  /** Fires when nobody waits for the files any more: what is not made then is not made at all. */
  readonly signal: AbortSignal
}

/** Files of one output, or why there are none. */
export type Rendered =
  | {
      readonly files: readonly RenderedFile[]
      readonly from: Provenance
      readonly omitted?: boolean
      /** Denials for which the files are taken away. */
      readonly revoked?: readonly ObjectFailure[]
    }
  | { readonly failures: readonly [ObjectFailure, ...ObjectFailure[]] }

/** What a failure names. */
interface Named {
  readonly object: string
  readonly path?: string
}

/** One file of an expanded value. */
interface Part {
  readonly name: string
  readonly bytes: Uint8Array
  readonly version?: string | undefined
}

/** One file with the version it is reported under. */
export interface RenderedFile extends AnswerFile {
  readonly id: string
  readonly version: string
}
/**
 * Bytes of one output's files, from the resolutions of its objects. Whatever a selector throws becomes
 * the object's failure. Gives others their turn between the objects of a gathered file.
 */
export function* render(
  output: Output,
  resolutions: readonly Resolution[],
  options: RenderOptions,
): Steps<Rendered> {
  if (options.signal.aborted) return { failures: [late(output)] }
  if (output.kind === 'gather') return yield* gathered(output, resolutions, options)
  const [resolution] = resolutions
  if (resolution === undefined) return { failures: [internal(output)] }
  if (resolution instanceof BackendError) return absentOr(output, failureOf(output, resolution))
  const { value, from } = resolution
  return guarded(output, options, () => ({
    files:
      output.kind === 'file'
        ? [fileOf(output, value, options.versionKey)]
        : partsOf(output, value).map((part) => partOf(output, part, value.version, options.versionKey)),
    from,
  }))
}

/** A document of what its objects hold; every one that fails is named. Each may have to read a large one of its own. */
function* gathered(
  output: GatherOutput,
  resolutions: readonly Resolution[],
  options: RenderOptions,
): Steps<Rendered> {
  const failures: ObjectFailure[] = []
  const origins = new Set<Provenance>()
  const valueOf = (one: Gathered, resolution: Resolution | undefined): Uint8Array | undefined => {
    const named = { ...one, path: output.path }
    const fail = (failure: ObjectFailure): undefined => {
      if (!(one.optional && ABSENT.has(failure.kind))) failures.push(failure)
    }
    if (resolution === undefined) return fail(internal(named))
    if (resolution instanceof BackendError) return fail(failureOf(named, resolution))
    origins.add(resolution.from)
    const bytes = resolution.value.bytes.reveal()
    try {
      return one.select ? one.select(bytes) : bytes
    } catch (error) {
      return fail(thrown(named, error, options.log))
    }
  }
  const values: (Uint8Array | undefined)[] = []
  let bytes = 0
  for (const [index, one] of output.sources.entries()) {
    if (options.signal.aborted) return { failures: [late(output)] }
    const value = valueOf(one, resolutions[index])
    bytes += value?.length ?? 0
    if (bytes > options.maxTotalBytes) {
      const message = `the objects of "${output.path}" have more than ${options.maxTotalBytes} bytes together`
      const remedy = 'Name fewer objects, or take parts of them with property'
      return {
        failures: [{ kind: 'too-large', code: 'FILE_TOO_LARGE', message, remedy, object: output.object }],
      }
    }
    values.push(value)
    yield
  }
  const [first, ...rest] = failures
  if (first) return { failures: [first, ...rest] }
  const absent = values.every((value) => value === undefined)
  if (absent) return { files: [], from: 'none', omitted: true }
  return guarded(output, options, () => {
    const contents = copyOf(output.combine(values))
    const { path, mode } = output
    const version = keyedDigest(options.versionKey, path, contents)
    return { files: [{ path, mode, contents, id: path, version }], from: worst(origins) }
  })
}

/** Runs what may throw a {@link SelectError}, and holds the files to the limit of their size. */
function guarded(
  output: Output,
  options: RenderOptions,
  make: () => { readonly files: readonly RenderedFile[]; readonly from: Provenance },
): Rendered {
  try {
    const made = make()
    const large = made.files.find((file) => file.contents.length > options.maxFileBytes)
    if (!large) return made
    const message = `the file "${large.path}" has ${large.contents.length} bytes; the limit is ${options.maxFileBytes}`
    const remedy = 'Raise limits.fileBytes in the configuration, or split the secret'
    return {
      failures: [{ kind: 'too-large', code: 'FILE_TOO_LARGE', message, remedy, object: output.object }],
    }
  } catch (error) {
    const failure = thrown(output, error, options.log)
    return error instanceof SelectError && failure.kind === 'not-found'
      ? absentOr(output, failure)
      : { failures: [failure] }
  }
}

/** Kinds that say: there is no such object. */
const ABSENT: ReadonlySet<ErrorKind> = new Set<ErrorKind>(['not-found', 'gone'])

function absentOr(output: Output, failure: ObjectFailure): Rendered {
  return output.optional && ABSENT.has(failure.kind)
    ? { files: [], from: 'none', omitted: true }
    : { failures: [failure] }
}

/** What a document of values of different origins says of itself: the one that matters most to know. */
function worst(origins: ReadonlySet<Provenance>): Provenance {
  return (['stale', 'backend', 'cache'] as const).find((from) => origins.has(from)) ?? 'none'
}

function thrown(output: Named, error: unknown, log: Logger): ObjectFailure {
  if (error instanceof SelectError) return failureOf(output, error)
  log.error('a selector threw something that is not a SelectError', {
    object: output.object,
    error: error instanceof Error ? error.name : typeof error,
  })
  return internal(output)
}

function partsOf(output: ExpandOutput, value: Value): readonly Part[] {
  return output.split
    ? output.split(value.bytes.reveal())
    : (value.parts ?? []).map(({ name, bytes, version }) => ({ name, bytes: bytes.reveal(), version }))
}

function fileOf(output: FileOutput, value: Value, key: KeyObject): RenderedFile {
  const { path, mode, select, versionId } = output
  const fetched = value.bytes.reveal()
  const contents = copyOf(select ? select(fetched) : fetched)
  const made = (): string =>
    output.version?.({ key, contents, value: fetched }) ?? keyedDigest(key, path, contents)
  return { path, mode, contents, id: versionId ?? path, version: value.version || made() }
}

function partOf(output: ExpandOutput, part: Part, version: string, key: KeyObject): RenderedFile {
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
  const contents = copyOf(part.bytes)
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

function failureOf(output: Named, error: BackendError | SelectError): ObjectFailure {
  const file = output.path === undefined ? {} : { file: output.path }
  return {
    kind: error.kind,
    code: error.code,
    message: error.message,
    remedy: error.remedy,
    object: output.object,
    ...file,
    ...(error instanceof BackendError && error.indirect && { indirect: true }),
  }
}

function late({ object }: Named): ObjectFailure {
  return {
    kind: 'timeout',
    code: 'BUDGET_EXHAUSTED',
    message: "the mount's time budget ended before its files were made",
    remedy: 'Name fewer objects, or smaller documents',
    object,
  }
}

function internal(output: Named): ObjectFailure {
  return {
    kind: 'internal',
    code: 'INTERNAL',
    message: 'the provider failed in a way it should not',
    remedy: "Look into the provider's log and report it",
    object: output.object,
  }
}
