/** Domains at which everybody can have an address: no company's, so no identity provider may speak for them. */
const PUBLIC = new Set(
  `gmail.com googlemail.com outlook.com hotmail.com hotmail.co.uk hotmail.fr hotmail.de hotmail.es hotmail.it live.com
  live.co.uk live.fr msn.com passport.com yahoo.com ymail.com rocketmail.com icloud.com me.com mac.com aol.com aim.com
  proton.me protonmail.com protonmail.ch pm.me tutanota.com tuta.com zoho.com zohomail.com fastmail.com fastmail.fm hey.com
  mail.com email.com usa.com mail.ru bk.ru inbox.ru list.ru yandex.ru yandex.com ya.ru qq.com foxmail.com 163.com 126.com
  sina.com naver.com hanmail.net daum.net web.de t-online.de freenet.de posteo.de mailbox.org orange.fr wanadoo.fr free.fr
  laposte.net sfr.fr libero.it virgilio.it uol.com.br bol.com.br terra.com.br rediffmail.com comcast.net verizon.net att.net
  sbcglobal.net bellsouth.net cox.net charter.net btinternet.com sky.com mailinator.com guerrillamail.com`.split(/\s+/),
)
/** Providers with a domain in many countries. */
const EVERYWHERE = /^(gmx|yahoo|hotmail|outlook|live|yandex|aol|ymail)\.(co\.|com\.)?[a-z]{2,3}$/

/** Whether this is a public mail provider's domain. @param domain lower case */
export const isPublicMailDomain = (domain: string): boolean => PUBLIC.has(domain) || EVERYWHERE.test(domain)
