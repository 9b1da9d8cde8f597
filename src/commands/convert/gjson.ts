/** Owns what a `property` of External Secrets Operator means: a path in the gjson language, of which names and positions are ours too. */

/** A query, a wildcard, a count or a modifier of gjson, which no `property` of ours can say. */
const QUERY = /[*?|#]|(?:^|\.)[@!{[]/

/** Whether a property only names members and list positions, so that it means the same in a class. */
export function isPlainProperty(property: string): boolean {
  return !QUERY.test(property.replaceAll(/\\./g, ''))
}

/** A member's literal name as a property that cannot be read as a path. */
export function literalProperty(name: string): string {
  return name.replaceAll(/[\\.]/g, '\\$&')
}
