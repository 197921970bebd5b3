"""What a token must allow for each RPC of EmailDispatchService. An RPC that is missing here ends the start."""

from sred_email_core.access.tokens import Scope

SCOPES = {
    "SendEmail": Scope.SEND,
    "BatchSendEmails": Scope.SEND,
    "StreamSendEmails": Scope.SEND,
    "CancelEmail": Scope.SEND,
    "GetEmail": Scope.READ,
    "ListEmails": Scope.READ,
    "WatchEmails": Scope.READ,
}
