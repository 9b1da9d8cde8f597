/** Owns the limits on a SOPS document (sops A15). */
import { sopsError } from './errors.ts'

export interface Limits {
  /** Bytes of a document inside an SPC. */
  readonly inlineBytes: number
  /** Bytes of a document in a file. */
  readonly fileBytes: number
  /** YAML documents in one file. */
  readonly documents: number
  /** Nesting below the top mapping, which is 0. */
  readonly depth: number
  /** Mappings, lists and scalars, expanded aliases included. */
  readonly nodes: number
  readonly aliases: number
  /** Bytes of one key. */
  readonly keyBytes: number
  /** Bytes of a rule's text. */
  readonly ruleBytes: number
  readonly masterKeys: number
  readonly groups: number
  /** Recipients of one age file. */
  readonly stanzas: number
  /** Bytes of one armored or base64 key entry. */
  readonly armoredKeyBytes: number
  /** Bytes of one produced file. */
  readonly outputBytes: number
  /** Bytes of all files of one document. */
  readonly totalBytes: number
  /** Milliseconds of processor time for one document. */
  readonly cpuMs: number
}

export const DEFAULT_LIMITS: Limits = {
  inlineBytes: 512 * 1024,
  fileBytes: 1024 * 1024,
  documents: 16,
  depth: 64,
  nodes: 20_000,
  aliases: 100,
  keyBytes: 1024,
  ruleBytes: 1024,
  masterKeys: 64,
  groups: 16,
  stanzas: 8,
  armoredKeyBytes: 16 * 1024,
  outputBytes: 1024 * 1024,
  totalBytes: 3.5 * 1024 * 1024,
  cpuMs: 2000,
}

/** @throws BackendError `LIMIT_EXCEEDED` naming the limit, when `actual` is above it. */
export function withinLimit(limits: Limits, name: keyof Limits, actual: number): void {
  if (actual > limits[name]) {
    throw sopsError(
      'LIMIT_EXCEEDED',
      `the document is over the limit "${name}" of ${limits[name]}`,
      `Make the document smaller, or let the operator raise backends.sops.limits.${name}.`,
    )
  }
}
