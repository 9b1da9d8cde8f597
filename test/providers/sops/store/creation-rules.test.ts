import { describe, expect, it } from 'vitest'
import { creationRulesText, findCreationRule } from '../../../../src/providers/sops/store/creation-rules.ts'

const A = 'age16v07jna668e03nx4lfsklwvt23z9yxhyxrfy5p4497u5wkgxt56qmke6ls'

function rules(...items: readonly string[]): string {
  return `creation_rules:\n${items.map((item) => `  - ${item}\n`).join('')}`
}

describe('.sops.yaml', () => {
  it('sops B1 the first rule that matches wins; a rule without path_regex matches all', () => {
    const text = rules('{ path_regex: "^payments/", age: one }', '{ age: "two, three" }')
    expect(findCreationRule(text, 'payments/db.yaml').recipients).toEqual(['one'])
    expect(findCreationRule(text, 'shop/db.yaml').recipients).toEqual(['two', 'three'])
  })

  it('sops B1 path_regex is an unanchored RE2 search on the path below the root', () => {
    const text = rules('{ path_regex: "(?i)PROD", age: one }', '{ age: two }')
    expect(findCreationRule(text, 'a/prod-db.yaml').recipients).toEqual(['one'])
    expect(findCreationRule(text, 'a/test-db.yaml').recipients).toEqual(['two'])
  })

  it('sops B1 age is a list or a comma-separated text; a key named twice counts once', () => {
    const text = rules('{ age: [one, "two,one", " three "] }')
    expect(findCreationRule(text, 'a/b.yaml').recipients).toEqual(['one', 'two', 'three'])
  })

  it('sops B1 the encryption rule and mac_only_encrypted are taken over; the default is explicit', () => {
    expect(
      findCreationRule(rules('{ age: one, encrypted_regex: "^pw$", mac_only_encrypted: true }'), 'a/b.yaml'),
    ).toEqual({
      recipients: ['one'],
      rule: { kind: 'encrypted_regex', text: '^pw$' },
      macOnlyEncrypted: true,
    })
    expect(findCreationRule(rules('{ age: one }'), 'a/b.yaml').rule).toEqual({
      kind: 'unencrypted_suffix',
      text: '_unencrypted',
    })
  })

  it.each([
    ['no list', 'a: b\n', /no list "creation_rules"/],
    ['no YAML', 'a: [\n', /no valid YAML/],
    ['no match', rules('{ path_regex: "^x/", age: one }'), /no rule matches a\/b.yaml/],
    ['a regex that does not compile', rules('{ path_regex: "(?=x)", age: one }'), /does not compile/],
    ['no recipient', rules('{ path_regex: "" }'), /names no age recipient/],
    ['recipients of another kind', rules('{ age: one, kms: "arn:x" }'), /"kms".*age recipients only/],
    ['key groups', rules('{ key_groups: [] }'), /"key_groups"/],
    ['a comment rule', rules('{ age: one, encrypted_comment_regex: x }'), /"encrypted_comment_regex"/],
    ['two rules', rules('{ age: one, encrypted_regex: a, unencrypted_suffix: b }'), /more than one/],
    ['a number as recipient', rules('{ age: 5 }'), /neither a text nor a list/],
    ['a rule that is a text', rules('x'), /no mapping/],
    ['too many aliases', `a: &a [x]\n${rules(`{ age: [${'*a,'.repeat(300)}] }`)}`, /./],
  ])('sops B1 refused with advice: %s', (_name, text, message) => {
    expect(() => findCreationRule(text, 'a/b.yaml')).toThrow(message)
  })

  it('sops B2 what init writes is read back', () => {
    expect(
      findCreationRule(creationRulesText([A, 'ssh-ed25519 AAAA me@host']), 'a/b.yaml').recipients,
    ).toEqual([A, 'ssh-ed25519 AAAA me@host'])
  })
})
