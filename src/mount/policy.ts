/** Owns the question every fetch must pass before it happens: may this pod use this store that way? */
import type { PodFacts, Source } from '../providers/adapter.ts'

export interface PolicyQuestion {
  readonly pod: PodFacts
  readonly provider: string
  readonly source: Source
  /** Host names or URLs that the fetch would call, as far as the SPC decides them. */
  readonly addresses: readonly string[]
}

export type PolicyAnswer =
  | {
      readonly allowed: true
      /** Worth a warning and a metric, e.g. the node's identity. */ readonly marks: readonly string[]
    }
  | { readonly allowed: false; readonly reason: string; readonly remedy: string }

export type Policy = (question: PolicyQuestion) => PolicyAnswer

/**
 * What a vendor's own provider would allow: the SPC may ask for the provider's identity. Each such use
 * is marked, so that it shows in log, metrics and audit (threat model T2).
 */
export const compatPolicy: Policy = ({ source }) => ({
  allowed: true,
  marks: source.identity === 'node' ? ['node-identity'] : [],
})
