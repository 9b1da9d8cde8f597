/** Owns the ways values come in: standard input, --from-file and --from-env-file; never arguments (sops B2). */
import { open } from 'node:fs/promises'
import { WriteError } from '../../providers/sops/write/error.ts'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'

/** Largest input; a larger document could not be mounted (sops A15). */
const MAX_INPUT_BYTES = 1024 * 1024

export interface InputOptions {
  /** `KEY=PATH` each. */
  readonly fromFile: readonly string[]
  /** Paths of dotenv files; `-` is standard input. */
  readonly fromEnvFile: readonly string[]
  /** Drop one final line feed of each file and of standard input. */
  readonly trimNewline: boolean
}

/** One value and the key it was given under. */
export interface InputValue {
  readonly key: string
  readonly bytes: SecretBytes
}

function tooLarge(what: string): never {
  throw new WriteError('usage', `${what} is larger than 1 MiB, more than a mount can carry`)
}

/** Standard input to its end. @throws WriteError when it is a terminal, which would echo the value. */
export async function readStandardInput(stdin: NodeJS.ReadStream = process.stdin): Promise<Buffer> {
  if (stdin.isTTY) {
    throw new WriteError(
      'usage',
      'the value is read from standard input, which is a terminal here and would show it',
      'Pipe it in, e.g. `pass show db | keyferry secret put …`, or use --from-file KEY=PATH.',
    )
  }
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of stdin as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > MAX_INPUT_BYTES) tooLarge('standard input')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** A whole file. @throws WriteError naming it when it is absent or too large. */
export async function readInputFile(path: string): Promise<Buffer> {
  const handle = await open(path, 'r').catch((error: unknown) => {
    const { code = 'an error' } = error as NodeJS.ErrnoException
    throw new WriteError(code === 'EACCES' ? 'permission' : 'usage', `${path} cannot be read (${code})`)
  })
  try {
    const stats = await handle.stat()
    if (stats.isDirectory()) throw new WriteError('usage', `${path} is a directory`)
    if (stats.size > MAX_INPUT_BYTES) tooLarge(path)
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

function splitKeyPath(option: string): readonly [string, string] {
  const at = option.indexOf('=')
  // Said without quoting it: someone may have put a value where a path belongs.
  if (at < 1 || at === option.length - 1) {
    throw new WriteError(
      'usage',
      '--from-file wants KEY=PATH',
      'Example: --from-file password=./password.txt',
    )
  }
  return [option.slice(0, at), option.slice(at + 1)]
}

/** `KEY=VALUE` lines, verbatim; empty lines and lines that begin with `#` are skipped (sops A4). */
function envLines(path: string, bytes: Buffer): readonly (readonly [string, Buffer])[] {
  const out: (readonly [string, Buffer])[] = []
  let number = 0
  for (let start = 0; start <= bytes.length;) {
    const feed = bytes.indexOf(0x0a, start)
    const end = feed === -1 ? bytes.length : feed
    const line = bytes.subarray(start, end)
    start = end + 1
    number += 1
    if (line.length === 0 || line[0] === 0x23) continue
    const equals = line.indexOf(0x3d)
    if (equals < 1) {
      throw new WriteError('usage', `${path}, line ${number}: no KEY=VALUE`)
    }
    out.push([line.subarray(0, equals).toString(), line.subarray(equals + 1)])
  }
  return out
}

function own(bytes: Buffer, trimNewline: boolean): SecretBytes {
  const end = trimNewline && bytes.at(-1) === 0x0a ? bytes.length - 1 : bytes.length
  return SecretBytes.copyOf(bytes.subarray(0, end))
}

/**
 * The values in the order given: files, then env files; standard input under the key `value` when
 * neither was named.
 * @throws WriteError `usage` for unreadable input and for a key given twice.
 */
export async function readValues(options: InputOptions): Promise<readonly InputValue[]> {
  const values: InputValue[] = []
  for (const option of options.fromFile) {
    const [key, path] = splitKeyPath(option)
    const bytes = await readInputFile(path)
    values.push({ key, bytes: own(bytes, options.trimNewline) })
    bytes.fill(0)
  }
  for (const path of options.fromEnvFile) {
    const bytes = path === '-' ? await readStandardInput() : await readInputFile(path)
    for (const [key, value] of envLines(path, bytes)) values.push({ key, bytes: own(value, false) })
    bytes.fill(0)
  }
  if (options.fromFile.length + options.fromEnvFile.length === 0) {
    const bytes = await readStandardInput()
    if (bytes.length === 0) {
      throw new WriteError(
        'usage',
        'standard input is empty',
        'Pipe the value in, or use --from-file KEY=PATH.',
      )
    }
    values.push({ key: 'value', bytes: own(bytes, options.trimNewline) })
    bytes.fill(0)
  }
  const twice = values.find(({ key }, index) => values.findIndex((other) => other.key === key) !== index)
  if (twice !== undefined) throw new WriteError('usage', `the key "${twice.key}" is given twice`)
  return values
}
