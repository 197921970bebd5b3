"""What a token must allow for each RPC of EmailOperationsService. An RPC that is missing here ends the start."""

from sred_email_core.access.tokens import Scope

SCOPES = {
    "GetQueueStats": Scope.READ,
    "ListDeadLetters": Scope.READ,
    "ListDeadLetterGroups": Scope.READ,
    "GetDeadLetter": Scope.READ,
    "ListSuppressions": Scope.READ,
    "GetEmailTimeline": Scope.READ,
    "ListAuditEntries": Scope.READ,
    "ReplayDeadLetters": Scope.OPERATE,
    "ResolveDeadLetters": Scope.OPERATE,
    "DiscardDeadLetters": Scope.OPERATE,
    "PauseDelivery": Scope.OPERATE,
    "ResumeDelivery": Scope.OPERATE,
    "AddSuppression": Scope.OPERATE,
    "RemoveSuppression": Scope.OPERATE,
    "EraseRecipient": Scope.OPERATE,
}
