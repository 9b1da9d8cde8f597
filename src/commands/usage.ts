/** Owns the error of wrong use: it ends a command with exit code 2. */

/** What was asked cannot be done as asked. The message says what to write instead. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Splits `key=value`. @throws UsageError naming the flag */
export function keyValue(flag: string, text: string): [string, string] {
  const at = text.indexOf('=')
  if (at < 1) throw new UsageError(`${flag} takes KEY=VALUE, not ${JSON.stringify(text)}`)
  return [text.slice(0, at), text.slice(at + 1)]
}
