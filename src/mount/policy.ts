/** Owns the question every fetch must pass before it happens: may this pod use this store that way? */
import { createHash } from 'node:crypto'
import { matchesGlob } from '../formats/glob.ts'
import type { Identity, PodFacts, Source } from '../providers/adapter.ts'

export interface PolicyQuestion {
  readonly pod: PodFacts
  /** Name under which the dialect was called. */
  readonly provider: string
  readonly source: Source
  /** Host names or URLs that the class, not the operator, chose for this fetch. */
  readonly addresses: readonly string[]
  /**
   * What the store is asked for: {@link import('../providers/adapter.ts').Backend.keys}. May be left empty
   * where only the pod's identity is used, at nobody's address: no rule is looked at then.
   */
  readonly keys: readonly string[]
}

/** What is worth a warning, a metric and a mark in the audit record (threat model T2, T11). */
export type PolicyMark = 'node-identity' | 'spc-address'

export type PolicyAnswer =
  | {
      readonly allowed: true
      readonly marks: readonly PolicyMark[]
      /** For the log, where no rule covers what is allowed all the same. */
      readonly warning?: string
    }
  | { readonly allowed: false; readonly reason: string; readonly remedy: string }

export type Policy = (question: PolicyQuestion) => PolicyAnswer

/**
 * Lets some fetches use the node's identity, or addresses that a class gives. Patterns are globs
 * ({@link matchesGlob}); a list that is absent means any.
 */
export interface PolicyRule {
  readonly backends?: readonly string[] | undefined
  readonly providers?: readonly string[] | undefined
  readonly namespaces?: readonly string[] | undefined
  readonly serviceAccounts?: readonly string[] | undefined
  /** Every key of the fetch must match one. */
  readonly keys?: readonly string[] | undefined
  /** Fetches of this identity are meant, and no others. */
  readonly identity: Identity
  /** Hosts that the class may give, e.g. `*.vault.example.org` or `vault:8200`. Absent: none. */
  readonly addresses?: readonly string[] | undefined
}

/** `compat`: what the vendor's own provider allows, marked. `hardened`: only what a rule covers. */
export interface PolicySettings {
  readonly profile: 'compat' | 'hardened'
  readonly allow: readonly PolicyRule[]
}

/**
 * The policy that the settings describe. A fetch with the pod's identity to addresses of the operator or
 * the vendor is always allowed: the store authorises it. So is one from a store of the configuration: that is
 * the operator's word as a whole, and its own `allow` list has been asked. Everything else needs one rule that
 * covers it whole.
 */
export function createPolicy({ profile, allow }: PolicySettings): Policy {
  return (question) => {
    const marks = marksOf(question)
    const covered =
      marks.length === 0 || isOperators(question) || allow.some((rule) => covers(rule, question))
    if (covered) return { allowed: true, marks }
    const asked = `${question.source.backend} is asked for ${marks.map((mark) => askedFor(mark, question)).join(' and ')}`
    const rule = ruleFor(question)
    if (profile === 'compat')
      return {
        allowed: true,
        marks,
        warning: `${asked}; policy.profile hardened would need the rule ${rule}`,
      }
    return {
      allowed: false,
      reason: `${asked}, which needs the rule ${rule}`,
      remedy: `Have the operator add that rule to policy.allow, or ${marks.map((mark) => WAY_OUT[mark]).join(' and ')}`,
    }
  }
}

/** What holds where nobody configured anything: what a vendor's own provider would allow, marked. */
export const compatPolicy: Policy = createPolicy({ profile: 'compat', allow: [] })

/**
 * Names a policy, so that nodes and restarts can be compared: 16 hexadecimal characters (threat model T28).
 * Lists keep their order, mappings have none.
 */
export function policyHash(settings: unknown): string {
  const text = JSON.stringify(settings, (_, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  )
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}

/** Whether the store is one of the configuration, whose identity and address are no class's choice. */
function isOperators({ source }: PolicyQuestion): boolean {
  return source.name !== undefined
}

function marksOf(question: PolicyQuestion): readonly PolicyMark[] {
  const { source, addresses } = question
  return [
    ...(source.identity === 'node' ? (['node-identity'] as const) : []),
    ...(addresses.length > 0 && !isOperators(question) ? (['spc-address'] as const) : []),
  ]
}

function covers(rule: PolicyRule, { pod, provider, source, addresses, keys }: PolicyQuestion): boolean {
  return (
    rule.identity === source.identity &&
    matchesAny(rule.namespaces, pod.namespace) &&
    matchesAny(rule.serviceAccounts, pod.serviceAccount) &&
    matchesAny(rule.backends, source.backend) &&
    matchesAny(rule.providers, provider) &&
    (rule.keys === undefined || (keys.length > 0 && keys.every((key) => matchesAny(rule.keys, key)))) &&
    addresses.every((address) => (rule.addresses ?? []).some((pattern) => matchesHost(pattern, address)))
  )
}

/** An empty name matches nothing, not even `*`. */
function matchesAny(patterns: readonly string[] | undefined, text: string): boolean {
  return (
    text !== '' && (patterns === undefined || patterns.some((pattern) => matchesGlob(pattern, text, '/')))
  )
}

/** A pattern without a port means every port. */
function matchesHost(pattern: string, address: string): boolean {
  const host = hostOf(address)
  if (host === undefined) return false
  const wanted = pattern.toLowerCase()
  const text = /:\d{1,5}$/.test(wanted) ? `${host.name}:${host.port}` : host.name
  return matchesGlob(wanted, text, '.')
}

interface HostAndPort {
  /** Lower case, in the spelling that is connected to: no decimal IPv4, no final dot. */
  readonly name: string
  readonly port: string
}

/** Undefined for what has no host, e.g. a unix socket. */
function hostOf(address: string): HostAndPort | undefined {
  const text = address.includes('://') ? address : `https://${address}`
  if (!URL.canParse(text)) return undefined
  const { protocol, hostname, port } = new URL(text)
  const standard = protocol === 'https:' ? '443' : protocol === 'http:' ? '80' : undefined
  const name = hostname.replace(/\.$/, '')
  return standard === undefined || name === '' ? undefined : { name, port: port === '' ? standard : port }
}

function askedFor(mark: PolicyMark, { addresses }: PolicyQuestion): string {
  if (mark === 'node-identity') return "the node's identity"
  return `an address that the class gives (${addresses.map(shownHost).join(', ')})`
}

const WAY_OUT: Readonly<Record<PolicyMark, string>> = {
  'node-identity': "use the pod's identity",
  'spc-address': 'leave the address out of the class',
}

/** The narrowest rule that would cover the question but for its keys, as it is written in the configuration. */
function ruleFor({ pod, source, addresses }: PolicyQuestion): string {
  const parts = [
    `backends: [${source.backend}]`,
    `namespaces: [${pod.namespace}]`,
    `serviceAccounts: [${pod.serviceAccount}]`,
    ...(source.identity === 'node' ? ['identity: node'] : []),
    ...(addresses.length > 0 ? [`addresses: [${addresses.map(shownHost).join(', ')}]`] : []),
  ]
  return `{${parts.join(', ')}}`
}

/** Only the host: a URL may have a password in it. */
function shownHost(address: string): string {
  const host = hostOf(address)
  return host === undefined ? 'no host' : host.name.slice(0, 100)
}
