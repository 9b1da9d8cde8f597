/** Owns values that become several files: the top-level keys of a JSON document, the objects below a prefix. */
import { JsonError, parseJson } from '../../formats/json-parse.ts'
import { JsonNumber } from '../../formats/json.ts'
import type { JsonValue } from '../../formats/json.ts'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { Value, ValuePart } from '../adapter.ts'
import { BackendError } from '../adapter.ts'

/**
 * One part for each top-level key whose value is a string, number or boolean; other keys are left out.
 * @throws BackendError when the value is not a JSON object with at least one such key.
 */
export function jsonParts(value: Value, name: string): readonly ValuePart[] {
  const refuse = (what: string): BackendError =>
    new BackendError({
      kind: 'malformed',
      code: 'AWS_JMES_JSON',
      message: `"${name.slice(0, 200)}" ${what}`,
      remedy: 'Expand only values that are a JSON object with text, numbers or booleans.',
    })
  let document: JsonValue
  try {
    document = parseJson(value.bytes.reveal())
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw refuse('is not valid JSON')
  }
  if (!(document instanceof Map)) throw refuse('is not a JSON object')
  const parts: ValuePart[] = []
  for (const [key, content] of document as ReadonlyMap<string, unknown>) {
    const text =
      typeof content === 'string'
        ? content
        : content instanceof JsonNumber
          ? content.text
          : typeof content === 'boolean'
            ? String(content)
            : undefined
    if (text !== undefined) parts.push({ name: key, bytes: SecretBytes.copyOf(text) })
  }
  if (parts.length === 0) throw refuse('has no top-level key with text, a number or a boolean')
  return parts
}

/**
 * One part for each object found. Below a path (`prefix` ends in `/`) the rest of the name is the part's
 * name, else the whole name. The bytes are empty: only the parts are of use.
 */
export function prefixParts(
  prefix: string,
  found: readonly { readonly name: string; readonly value: Value }[],
): Value {
  if (found.length === 0)
    throw new BackendError({
      kind: 'not-found',
      code: 'AWS_NOT_FOUND',
      message: `nothing has a name that begins with "${prefix.slice(0, 200)}"`,
      remedy: 'Check the prefix, the region and the account.',
    })
  return {
    bytes: SecretBytes.copyOf(''),
    version: '',
    parts: found
      .toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
      .map(({ name, value }) => ({
        name: prefix.endsWith('/') && name.startsWith(prefix) ? name.slice(prefix.length) : name,
        bytes: value.bytes,
        version: value.version,
      })),
  }
}
