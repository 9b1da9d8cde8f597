/** Owns AWS's names: ARNs, parameter selectors, and what file name an object gets (aws.md sections 4 and 5). */

import { AwsFailure } from './failures.ts'

/** An ARN's six fields, of which the dialect reads two. */
export interface Arn {
  readonly service: string
  readonly region: string
}

/**
 * Splits a name that begins with `arn:`.
 * @returns undefined for an ordinary name, `malformed` for fewer than six fields.
 */
export function arnOf(name: string): Arn | 'malformed' | undefined {
  // The prefix is literal: `ARN:` begins an ordinary name.
  if (!name.startsWith('arn:')) return undefined
  const fields = name.split(':')
  if (fields.length < 6) return 'malformed'
  return { service: fields[2] ?? '', region: fields[3] ?? '' }
}

/** Rule 14, where the region was not known before the mount: why `region` cannot be asked for this name. */
export function arnRegionFault(name: string, region: string): AwsFailure | undefined {
  const arn = arnOf(name)
  if (arn === undefined || (arn !== 'malformed' && arn.region === region)) return undefined
  return new AwsFailure({
    kind: 'config',
    code: arn === 'malformed' ? 'AWS_BAD_ARN' : 'AWS_ARN_REGION',
    final: true,
    awsCode: 'config',
    message: arn === 'malformed' ? 'the ARN has too few fields' : `the ARN is of region "${arn.region}"`,
  })
}

/** A parameter's name and the version or label that may stand behind it: `name:3`, `arn:…:parameter/name:prod`. */
export function splitSelector(name: string): { readonly name: string; readonly selector?: string } {
  const first = name.startsWith('arn:') ? nthColon(name, 6) : name.indexOf(':')
  if (first < 0) return { name }
  return { name: name.slice(0, first), selector: name.slice(first + 1) }
}

function nthColon(text: string, n: number): number {
  let at = -1
  for (let i = 0; i < n; i += 1) {
    at = text.indexOf(':', at + 1)
    if (at < 0) return -1
  }
  return at
}

/** How `/` in a name becomes part of a file name: a replacement character, or `off` for sub-directories. */
export type PathTranslation = { readonly replacement: string } | 'off'

/**
 * Parameter `pathTranslation`: empty means `_`, any casing of `false` means off, else one byte.
 * @returns undefined when it is none of these.
 */
export function pathTranslation(text: string | undefined): PathTranslation | undefined {
  if (text === undefined || text === '') return { replacement: '_' }
  if (text.toLowerCase() === 'false') return 'off'
  return Buffer.byteLength(text) === 1 ? { replacement: text } : undefined
}

/** The path of an object's file. */
export function filePath(name: string, translation: PathTranslation): string {
  if (translation !== 'off') return name.replaceAll('/', () => translation.replacement)
  let start = 0
  while (name[start] === '/') start += 1
  return name.slice(start)
}

/** The vendor's own traversal rule; the host checks the rest. */
export function climbs(path: string): boolean {
  return path.includes('/../') || path.startsWith('../') || path.endsWith('/..')
}
