/** Owns the step from a fetched text to one file: an encoding, a part of a PEM text, a JSON field. */
import { EncodingError } from '../../formats/go-encodings.ts'
import { compileJmesPath, JmesPathError, type JmesPath } from '../../formats/jmespath.ts'
import { JsonError, parseJson } from '../../formats/json-parse.ts'
import { JsonNumber, type JsonValue } from '../../formats/json.ts'
import { pemBlocks, pemText } from '../../formats/pem.ts'
import { SelectError, type ErrorKind, type Select } from '../adapter.ts'
import { decoded } from './contents.ts'

function fault(kind: ErrorKind, message: string, remedy: string): SelectError {
  return new SelectError({ kind, code: 'AZURE_BAD_VALUE', message, remedy })
}

const textOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()

/** The value decoded (azure section 9.8). */
export function encodedSelect(encoding: 'base64' | 'hex'): Select {
  return (bytes) => {
    try {
      return decoded(textOf(bytes), encoding)
    } catch (error) {
      if (!(error instanceof EncodingError)) throw error
      throw fault('malformed', error.message, `Store the value in ${encoding}, or leave objectEncoding out.`)
    }
  }
}

/** What of a certificate's secret a file holds: all certificates, all but the leaf, or the key. */
export type PemPart = 'certificate' | 'chain' | 'key'

/** Blocks of a PEM text. A chain may be empty; certificates and keys may not. */
export function pemSelect(part: PemPart): Select {
  return (bytes) => {
    const blocks = pemBlocks(textOf(bytes))
    const certificates = blocks.filter(({ label }) => label === 'CERTIFICATE')
    const keys = blocks.filter(({ label }) => label !== 'CERTIFICATE')
    const found = { certificate: certificates, chain: certificates.slice(1), key: keys }[part]
    if (found.length === 0 && part !== 'chain') {
      throw fault(
        'malformed',
        `split: the secret holds no ${part}`,
        'Use split only on the secret of a certificate, and mark its key as exportable.',
      )
    }
    return Buffer.from(found.map(pemText).join(''))
  }
}

/**
 * The text of one field of a value that is JSON.
 * @throws JmesPathError when the path cannot be compiled.
 */
export function jmesSelect(path: string): Select {
  const compiled = compileJmesPath(path)
  const shown = path.slice(0, 100)
  return (bytes) => {
    const found = searched(compiled, documentOf(bytes, shown), shown)
    if (found === null) {
      throw fault(
        'not-found',
        `jmesPath "${shown}" finds nothing`,
        'Check the path against the keys of the value.',
      )
    }
    if (typeof found === 'string') return Buffer.from(found)
    if (found instanceof JsonNumber) return Buffer.from(found.text)
    if (typeof found === 'boolean') return Buffer.from(String(found))
    throw fault(
      'malformed',
      `jmesPath "${shown}" finds more than one text`,
      'Point to a single text, or wrap the path in to_string( ).',
    )
  }
}

function documentOf(bytes: Uint8Array, path: string): JsonValue {
  try {
    return parseJson(bytes)
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw fault(
      'malformed',
      `jmesPath "${path}": the value is not JSON`,
      'Use jmesPath only on values that are JSON.',
    )
  }
}

function searched(compiled: JmesPath, document: JsonValue, path: string): JsonValue {
  try {
    return compiled.search(document)
  } catch (error) {
    if (!(error instanceof JmesPathError)) throw error
    throw fault(
      'config',
      `jmesPath "${path}": ${error.message}`,
      'Check the arguments of the functions in the path.',
    )
  }
}
