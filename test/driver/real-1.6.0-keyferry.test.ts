import { keyferrySubject, KEYFERRY_PEERS } from './keyferry-subject.ts'
import { mountSuite16 } from './mount-suite-1.6.ts'

mountSuite16('keyferry serve and SOPS documents', keyferrySubject, KEYFERRY_PEERS)
