/** Owns subjects: patterns `namespace/serviceaccount` that say whom a document or an identity is for (sops A11). */

/** Who asks. From kubelet, or from a verified token. */
export interface Caller {
  readonly namespace: string
  readonly serviceAccount: string
}

/** A pattern; `*` stands for a whole segment only. */
export interface Subject {
  readonly namespace: string
  readonly serviceAccount: string
}

const SEGMENT = /^(?:\*|[A-Za-z0-9._-]{1,253})$/

/** Parses `payments/api`, `payments/*`; undefined when it is no subject. */
export function parseSubject(text: string): Subject | undefined {
  const [namespace = '', serviceAccount = '', more] = text.split('/', 3)
  if (more !== undefined || !SEGMENT.test(namespace) || !SEGMENT.test(serviceAccount)) return undefined
  return { namespace, serviceAccount }
}

/** `*` in both places: everyone. */
export function isEveryone(subject: Subject): boolean {
  return subject.namespace === '*' && subject.serviceAccount === '*'
}

/** Whether a caller is meant. An empty name never matches. */
export function matchesSubject(subject: Subject, caller: Caller): boolean {
  const matches = (pattern: string, name: string): boolean =>
    name !== '' && (pattern === '*' || pattern === name)
  return (
    matches(subject.namespace, caller.namespace) && matches(subject.serviceAccount, caller.serviceAccount)
  )
}
