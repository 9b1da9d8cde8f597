import { keyferrySubject, KEYFERRY_PEERS } from './keyferry-subject.ts'
import { mountSuite15 } from './mount-suite-1.5.ts'

mountSuite15('keyferry serve and SOPS documents', keyferrySubject, KEYFERRY_PEERS)
