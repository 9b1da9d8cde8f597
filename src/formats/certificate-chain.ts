/** Owns putting certificates into chain order by their key identifiers (RFC 5280 sections 4.2.1.1 and 4.2.1.2). */
import { context, DerError, octets, oid, parseDer, TAG, type DerNode } from './der.ts'

/** There is no order at all. */
export class ChainError extends Error {
  override readonly name = 'ChainError'
}

export interface Chain {
  readonly certificates: readonly Buffer[]
  /** False: not all of them hang together, and they stand as they came. */
  readonly complete: boolean
}

interface KeyIds {
  /** Hexadecimal; `''` when the certificate has none. */
  readonly subject: string
  readonly authority: string
}

/**
 * Leaf, intermediates, root. A certificate's issuer is the first other one whose subject key
 * identifier equals its authority key identifier; names and signatures are not looked at, so that the
 * order is that of Azure's own provider (azure section 9.4).
 * @throws ChainError `no leaf found`, `constructing chain resulted in cycle`
 */
export function chainOf(certificates: readonly Buffer[]): Chain {
  const ids = certificates.map(keyIdsOf)
  const bySubject = new Map<string, number[]>()
  for (const [index, { subject }] of ids.entries()) {
    if (subject === '') continue
    const known = bySubject.get(subject)
    // Two candidates are enough: the first that is not the certificate itself.
    if (known === undefined) bySubject.set(subject, [index])
    else if (known.length < 2) known.push(index)
  }
  const parents = ids.map(({ authority }, index) =>
    bySubject.get(authority)?.find((other) => other !== index),
  )
  const marked = new Set(parents)
  const head = ids.findIndex((_, index) => !marked.has(index))
  if (head === -1) throw new ChainError('no leaf found')
  const order: number[] = []
  for (let next: number | undefined = head; next !== undefined; next = parents[next]) {
    if (order.length === ids.length) throw new ChainError('constructing chain resulted in cycle')
    order.push(next)
  }
  const complete = order.length === ids.length
  return {
    certificates: complete ? order.flatMap((index) => certificates[index] ?? []) : certificates,
    complete,
  }
}

const SUBJECT_KEY_ID = '2.5.29.14'
const AUTHORITY_KEY_ID = '2.5.29.35'

/** What cannot be read counts as absent: the certificate itself is passed on as it is. */
function keyIdsOf(der: Buffer): KeyIds {
  try {
    const extensions = parseDer(der).children[0]?.children.find((node) => node.tag === context(3))
      ?.children[0]
    const list = extensions?.children ?? []
    const subject = valueOf(list, SUBJECT_KEY_ID)
    const authority = valueOf(list, AUTHORITY_KEY_ID)?.children.find((node) => node.tag === context(0))
    return {
      subject: subject === undefined ? '' : octets(subject).toString('hex'),
      authority: authority === undefined ? '' : octets(authority).toString('hex'),
    }
  } catch (error) {
    if (error instanceof DerError) return { subject: '', authority: '' }
    throw error
  }
}

function valueOf(extensions: readonly DerNode[], id: string): DerNode | undefined {
  const extension = extensions.find((node) => node.children[0] !== undefined && oid(node.children[0]) === id)
  const value = extension?.children.at(-1)
  return value?.tag === TAG.octetString ? parseDer(octets(value)) : undefined
}
