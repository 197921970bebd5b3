"""One email's content in its envelope: AES-256-GCM under a data key of its own, which a key of the ring wraps.

A data key is drawn for each email and used once, and is wrapped without a nonce (RFC 3394): no number of emails makes a
nonce meet its key twice.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from google.protobuf.message import DecodeError

from sred.email.v1.stream_message_pb2 import EmailContent, EncryptedContent
from sred_email_core.encryption.key_ring import DAMAGED, KEY_BYTES, EncryptionKey, KeyRing
from sred_email_core.errors import UnreadableContentError

_MARK = b"\0"
"""What an encrypted message in the log begins with; a serialized EmailContent never does: there is no field 0."""
_NONCE_BYTES = 12


def seal(
    key: EncryptionKey, email_id: str, content: bytes, *, has_attachments: bool, sender_domain: str
) -> EncryptedContent:
    """Encrypt the content of an email.

    Args:
        key: That wraps its data key.
        email_id: Which the content is bound to.
        content: Serialized EmailContent.
        has_attachments: Whether it has any; readable without a key, since the queue goes by it.
        sender_domain: The same; letters, digits, dots and dashes.
    """
    drawn = os.urandom(KEY_BYTES + _NONCE_BYTES)
    data_key, nonce = drawn[:KEY_BYTES], drawn[KEY_BYTES:]
    sealed = EncryptedContent(
        key_id=key.id,
        key_check=key.check,
        wrapped_key=aes_key_wrap(key.secret, data_key),
        nonce=nonce,
        has_attachments=has_attachments,
        sender_domain=sender_domain,
    )
    sealed.ciphertext = AESGCM(data_key).encrypt(nonce, content, _associated_data(email_id, sealed))
    return sealed


def unseal(ring: KeyRing, email_id: str, sealed: EncryptedContent) -> EmailContent:
    """Decrypt the content of an email.

    Raises:
        KeyMissingError: The ring lacks its key.
        UnreadableContentError: Nobody can read it: it is damaged, is another email's, or its key is lost.
    """
    key = ring.find(sealed.key_id, sealed.key_check)
    try:
        data_key = aes_key_unwrap(key.secret, sealed.wrapped_key)
        content = AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, _associated_data(email_id, sealed))
        return EmailContent.FromString(content)
    except (InvalidUnwrap, InvalidTag, ValueError, DecodeError) as e:  # ValueError: a length that none of ours has
        raise UnreadableContentError(DAMAGED) from e


def to_stored(sealed: EncryptedContent) -> bytes:
    """As the log keeps it."""
    return _MARK + sealed.SerializeToString()


def is_encrypted(message: bytes | None) -> bool:
    """Whether what the log keeps of an email is encrypted."""
    return message is not None and message.startswith(_MARK)


def from_stored(message: bytes) -> EncryptedContent | None:
    """What the log keeps of an email, if that is encrypted; None: it is not.

    Raises:
        DecodeError: It is neither.
    """
    return EncryptedContent.FromString(message[len(_MARK) :]) if is_encrypted(message) else None


def _associated_data(email_id: str, sealed: EncryptedContent) -> bytes:
    bound = ("sred-email content 1", email_id, sealed.key_id, str(int(sealed.has_attachments)), sealed.sender_domain)
    return "".join(f"{part}\n" for part in bound).encode()
