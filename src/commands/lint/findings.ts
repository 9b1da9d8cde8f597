/** Owns what a check of SecretProviderClasses has found, before it is written as text, JSON or SARIF. */

/** One thing that is wrong, or that the author should know. */
export interface Finding {
  /** A `fault` stops the mount or drops what was asked for; a `warning` does not. */
  readonly severity: 'fault' | 'warning'
  readonly file: string
  /** Both from 1; columns count UTF-16 units. */
  readonly line: number
  readonly column: number
  /** Stable upper-case word, the same that a failed mount shows. */
  readonly code: string
  readonly message: string
  readonly remedy?: string
  /** Name of the class, as far as it has one. */
  readonly secretProviderClass?: string
}

export interface LintResult {
  readonly files: readonly string[]
  /** How many classes were found, readable or not. */
  readonly classes: number
  /** By file as given, then by place. */
  readonly findings: readonly Finding[]
}

export function faultsOf({ findings }: LintResult): readonly Finding[] {
  return findings.filter(({ severity }) => severity === 'fault')
}

/** The message and what to do about it, on one line; classes can hold anything, control characters too. */
export function adviceOf({ message, remedy }: Finding): string {
  return printable([message, ...(remedy === undefined ? [] : [remedy])].map(sentence).join(' '))
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`
}

export function printable(text: string): string {
  return text.toWellFormed().replace(/\p{Cc}+/gu, ' ')
}
