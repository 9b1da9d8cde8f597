/** Owns what the converters of vendors' classes are given and give. */
import type { Plan } from '../../providers/adapter.ts'
import type { Entry } from './entries.ts'
import type { Field } from './field.ts'
import type { StoreBook, StoreHandle } from './stores.ts'

/** What the driver asks for (driver.md section 1.1). */
export const DEFAULT_MODE = 0o644

/** A vendor's class whose plan has no fault. */
export interface SpcReading {
  readonly provider: string
  readonly parameters: ReadonlyMap<string, string>
  readonly fields: ReadonlyMap<string, Field>
  /** `spec.parameters`. */
  readonly given: Field
  readonly book: StoreBook
  /** Kind, namespace and name of the class. */
  readonly object: string
  /** What the server would mount. */
  readonly plan: Plan
}

export interface SpcResult {
  readonly entries: readonly Entry[]
  readonly stores: ReadonlySet<StoreHandle>
}

export type VendorConverter = (reading: SpcReading) => SpcResult

/** Where notes about an entry of a list in a parameter go. */
export function entryField(
  { fields, given }: SpcReading,
  parameter: string,
  line: number,
  label: string,
): Field {
  return (fields.get(parameter) ?? given).line(line, label)
}
