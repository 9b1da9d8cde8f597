/** Owns which names and versions Key Vault allows: they become segments of a URL. */

/** Letters, digits and hyphens, 1 to 127. */
export const isObjectName = (text: string): boolean => /^[0-9A-Za-z-]{1,127}$/.test(text)
